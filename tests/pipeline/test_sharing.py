import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from maskgit.config.presets import Preset
from maskgit.pipeline.model_card import card
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.pipeline.sharing import public, share
from tests.conftest import cli

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's


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
    (run / "machine.txt").write_text("1 x Pear M9, 2 threads\n")
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
    (out / "README.md").write_text("# my own words")
    (out / "grid.png").unlink()
    assert cli("share", private, "--out", out) == 0 and (out / "grid.png").is_file()
    assert (out / "README.md").read_text() == "# my own words"


def test_the_card_tells_what_the_run_knows(private, tmp_path):
    assert share(private, tmp_path / "given") == [str(tmp_path / "given")]
    text = (tmp_path / "given" / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "maskgit-torch" and "maskgit" in head["tags"]
    for words in (
        "# given", "![a row for each class](grid.png)", "Classes: bag, t-shirt, coat.",
        "16 x 16 pixels", "4 x 4 cells of 16 codes", "`confidence` sampler (steps 4)",
        "maskgit sample given --out grid.png", "Pipeline.from_pretrained('./given')",
        "| fid | 3.25 ± 0.5 | 0.125 |", "| recall | 0.5 |  |", "20 samples, 2026-11-28, x86_64",
        "`folder` (root my images, list ['b.txt', 'c']), whose licence is not known here",
        f"4 steps of 2 images, {(64 / 64 + 64 / 32) / 60:.3g} minutes of steps on 1 x Pear M9, 2 threads",
        "steps: 4", "</summary>", "</details>",
        f"torch {torch.__version__.split('+')[0]}",
    ):  # fmt: skip
        assert words in text, words
    with Image.open(tmp_path / "given" / "grid.png") as grid:
        assert grid.width > 8 * 16 and grid.height > 3 * 16


def test_a_run_that_knows_little_has_a_short_card(run):
    text = card(Pipeline.from_pretrained(run), run, "me/bags", on_hub=True)
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


@pytest.fixture
def writer(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.writer)
    return hub


def test_what_is_pushed_comes_back(writer, private, tmp_path, capsys):
    assert cli("share", private, "--out", tmp_path / "given", "--push", "me/bags") == 0
    told = capsys.readouterr().out.split()
    assert told == [str(tmp_path / "given"), f"{writer.url}/me/bags"]
    files = writer.repositories["me/bags"].files
    given = {path.relative_to(tmp_path / "given").as_posix(): path.read_bytes()
             for path in (tmp_path / "given").rglob("*") if path.is_file()}  # fmt: skip
    assert files == given and b"hub:me/bags" in files["README.md"]
    back = Pipeline.from_pretrained("me/bags")
    own = Pipeline.from_pretrained(private)
    assert torch.equal(*(torch.stack(list(p.stream([1], [2]))) for p in (back, own)))


def test_a_pipeline_pushes_itself(writer, tiny_pipeline, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    words = {"token": writer.writer, "private": True}
    assert tiny_pipeline.push_to_hub("me/bags", **words) == f"{writer.url}/me/bags"
    repository = writer.repositories["me/bags"]
    assert repository.private and {"README.md", "grid.png", "config.json"} <= set(repository.files)
    tiny_pipeline.presets = {"few": Preset(sampler={"name": "halton", "steps": 2})}
    tiny_pipeline.push_to_hub("me/bags", token=writer.writer)
    assert "presets/few.yaml" in repository.files
    tiny_pipeline.presets = {}
    tiny_pipeline.push_to_hub("me/bags", token=writer.writer)
    assert "presets/few.yaml" not in repository.files  # of an earlier push
    assert Pipeline.from_pretrained("me/bags", token=writer.writer).presets == {}


@pytest.mark.parametrize(
    ("token", "broken", "offline", "message"),
    [
        (None, 0, False, "answers 401 to a push to me/bags: set HF_TOKEN to a token that may"),
        ("reader", 0, False, "answers 403 to a push to me/bags: set HF_TOKEN"),
        ("writer", 500, False, "answers 500 to a push to me/bags: try again later"),
        ("writer", 0, True, "HF_HUB_OFFLINE is set: unset it to push"),
    ],
)
def test_a_push_that_fails_is_a_line(
    hub, tiny_pipeline, monkeypatch, token, broken, offline, message
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    hub.broken = broken
    with pytest.raises(ValueError) as error:
        tiny_pipeline.push_to_hub("me/bags", token=token)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not hub.repositories.get("me/bags")


def test_a_wrong_name_is_refused(hub, tiny_pipeline, run, tmp_path):
    for name in ("bags", "me/bags/x", "me/bags@v1", "me/--x"):
        with pytest.raises(ValueError, match="hub:"):
            tiny_pipeline.push_to_hub(name, token="writer")
    assert cli("share", run, "--out", tmp_path / "out", "--push", "me/bags@v1") == 2
    assert not (tmp_path / "out").exists()
    assert not hub.asked


def test_a_push_that_broke_sends_only_what_is_lacking(writer, tiny_pipeline):
    writer.full = 413
    with pytest.raises(ValueError, match="Error while uploading .*413.*: the same command goes on"):
        tiny_pipeline.push_to_hub("me/bags")
    writer.full = 0
    tiny_pipeline.push_to_hub("me/bags")
    writer.asked.clear()
    tiny_pipeline.push_to_hub("me/bags")
    assert not [path for method, path, *_ in writer.asked if method == "PUT"]
