"""What an earlier version wrote is read: a run, pipelines and a code cache of 0.1 (commit
71d6214)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from maskgit import Pipeline
from tests.conftest import cli, repo

VERSIONS = sorted(path.name for path in (repo() / "tests" / "golden").glob("[0-9]*"))


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path, monkeypatch):
    """A copy of what that version wrote, as the working directory."""
    shutil.copytree(repo() / "tests" / "golden" / request.param, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "old"


def call(*words):
    assert cli(*words) == 0, words


def test_a_run_goes_on_from_its_checkpoint(old, capfd):
    again = ["train", "maskgit/config.yaml", "train.steps=6", "train.save_every=2"]
    call(*again)
    rows = [json.loads(line) for line in Path("maskgit/metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "learning_rate" in row]
    assert steps == [1, 2, 3, 4, 5, 6], "from the fourth step on, not from the start"
    assert (old / "maskgit" / "checkpoints" / "step_00000006").is_dir()
    call(*again)
    assert "is trained to step 6 already" in capfd.readouterr().err


def test_its_data_are_tokenised_already(old, capfd):
    call("tokenize", "vqgan", "--out", "codes")
    assert "tokenised already" in capfd.readouterr().err


@pytest.mark.parametrize("run", ["maskgit", "critic"])
def test_its_pipelines_draw_edit_and_are_written_again(old, run):
    pipeline = Pipeline.from_pretrained(run)
    images = pipeline.generate([0, 1], [3, 4])
    again = Pipeline.from_pretrained(pipeline.save_pretrained(old / "again")).generate(
        [0, 1], [3, 4]
    )
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(images, again, strict=True))
    call("sample", run, "--out", "grid.png", "--labels", "coat", "--sampler", "halton")
    call("edit", "variation", run, "validation:3", "--pairs", "edited.png")
    assert Path("grid.png").stat().st_size > 100 and Path("edited.png").stat().st_size > 100


def test_what_it_wrote_is_told_and_measured(old, capfd):
    for path in ("vqgan", "maskgit", "critic", "codes"):
        call("info", path)
    assert "a maskgit run of 4 steps" in capfd.readouterr().out
    call("evaluate", "maskgit", "--metrics", "bits")
    call("evaluate", "vqgan", "--metrics", "psnr,codes")
    assert (
        json.loads(Path("maskgit/evaluation/results.json").read_text())["numbers"]["bits_per_code"][
            "value"
        ]
        > 1
    )
