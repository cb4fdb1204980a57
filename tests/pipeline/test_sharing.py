import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from maskgit.config.presets import Preset
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.pipeline.sharing import public, share
from tests.conftest import cli


@pytest.fixture
def private(tiny_pipeline, tmp_path):
    """A run that knows much of its machine."""
    home, pipeline = str(Path.home()), tiny_pipeline
    pipeline.run = {"run": f"{home}/secret/run", "codes": str(tmp_path / "codes"), "tokenizer": "runs/x",
                    "train": {"steps": 4, "batch_size": 2}}  # fmt: skip
    source = {"name": "folder", "root": "/mnt/vault/my images", "list": ["~/a/b.txt", "C:\\me\\c"]}
    pipeline.data = {"source": source, "image_size": 16}
    measured = {"command": f"maskgit tune {home}/secret/run --weights /opt/judge", "fid": 3.0}
    pipeline.presets = {
        "halton-2": Preset(sampler={"name": "halton", "steps": 2}, measured=measured)
    }
    run = tmp_path / "secret run"
    pipeline.save_pretrained(run / "pipeline")
    (run / "evaluation").mkdir()
    numbers = {"fid": {"value": 3.25, "half_width": 0.5, "floor": 0.125, "better": "lower"},
               "recall": {"value": 0.5, "half_width": None, "floor": None, "better": "higher"}}  # fmt: skip
    results = {"of": str(run), "date": "2026-11-28T00:00:00+00:00", "samples": {"count": 20},
               "numbers": numbers, "machine": "x86_64, 1 processes on cpu"}  # fmt: skip
    (run / "evaluation" / "results.json").write_text(json.dumps(results))
    rows = [{"step": 2, "cells_per_second": 64.0}, {"step": 2, "loss": 1}, {"step": 4, "cells_per_second": 32.0}]  # fmt: skip
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step')
    return run


def test_a_shared_model_draws_the_same_and_names_no_path(private, tmp_path, capsys):
    out = tmp_path / "given"
    assert cli("share", private, "--out", out) == 0 and capsys.readouterr().out == f"{out}\n"
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {"README.md", "grid.png", "config.json", "model.safetensors",
                     "tokenizer.safetensors", "presets/halton-2.yaml"}  # fmt: skip
    kept = [str(Path.home()), str(tmp_path), "secret", "/mnt", "vault", "/opt", "~/a", "C:\\\\me"]
    for path in filter(Path.is_file, out.rglob("*")):
        assert not [word for word in kept if word.encode() in path.read_bytes()], path
    before, after = (Pipeline.from_pretrained(folder) for folder in (private, out))
    for words in ({"guidance": 2.0}, {"preset": "halton-2"}):
        drawn = [torch.stack(list(p.stream([0, 2], [3, 4], **words))) for p in (before, after)]
        assert torch.equal(*drawn)
    assert pipeline_hashes(private) == pipeline_hashes(out)
    assert after.data["source"] == {"name": "folder", "root": "my images", "list": ["b.txt", "c"]}
    assert after.run["tokenizer"] == "runs/x" and after.presets["halton-2"].measured["fid"] == 3.0
    assert cli("share", private, "--out", out) == 0  # anew


def test_the_card_tells_what_the_run_knows(private, tmp_path):
    text = (share(private, tmp_path / "given") / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "maskgit-torch" and "maskgit" in head["tags"]
    for words in (
        "# given", "![a row for each class](grid.png)", "Classes: bag, t-shirt, coat.",
        "16 x 16 pixels", "4 x 4 cells of 16 codes", "`confidence` sampler (steps 4)",
        "maskgit sample given --out grid.png", "Pipeline.from_pretrained('./given')",
        "| fid | 3.25 ± 0.5 | 0.125 |", "| recall | 0.5 |  |", "20 samples, 2026-11-28, x86_64",
        "`folder` (root my images, list ['b.txt', 'c']), whose licence is not known here",
        f"4 steps of 2 images, {(64 / 64 + 64 / 32) / 60:.3g} minutes", "steps: 4",
        f"torch {torch.__version__.split('+')[0]}",
    ):  # fmt: skip
        assert words in text, words
    with Image.open(tmp_path / "given" / "grid.png") as grid:
        assert grid.width > 8 * 16 and grid.height > 3 * 16


def test_a_run_that_knows_little_has_a_short_card(run, tmp_path):
    text = (share(run, tmp_path / "given", "me/bags") / "README.md").read_text()
    assert "# bags" in text and "maskgit sample hub:me/bags" in text
    assert "from_pretrained('me/bags')" in text
    assert not [title for title in ("Numbers", "Data", "Training") if f"## {title}" in text]


@pytest.mark.parametrize("place", ["run", "run/pipeline", "other"])
def test_other_folders_are_not_written_into(run, tmp_path, place, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    assert cli("share", run, "--out", tmp_path / place) == 2
    assert "choose" in capsys.readouterr().err
    assert not list(tmp_path.rglob("grid.png"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a.org/b/c, 1/2 or a/b", "see https://a.org/b/c, 1/2 or a/b"),
        ("/data/x-{000..9}.tar", "x-{000..9}.tar"),
        ("run=/data/x.pt y", "run=x.pt y"),
        ("of '/data/in a/x'", "of 'in a/x'"),
        (f"at {Path.home()}", "at ~"),
        ("runs/mnist", "runs/mnist"),
        ("~me/x", "x"),
    ],
)
def test_of_absolute_paths_the_last_name_stays(text, shown):
    assert public(text) == shown and public({text: [text, 1]}) == {shown: [shown, 1]}
