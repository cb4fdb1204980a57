"""Pipelines that come with the package, by name in every command."""

import json
from pathlib import Path

import pytest

from maskgit.pipeline import Pipeline, at_hand, check_own, check_there, results_beside
from maskgit.pipeline.shipped import shipped, shipped_name, shipped_names
from tests.conftest import cli
from vqgan.weights import recorded_hash


@pytest.fixture
def toys(tiny_pipeline, tmp_path, monkeypatch):
    """`toys` is one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("maskgit.pipeline.shipped.FOLDER", tmp_path / "package")
    return tiny_pipeline.save_pretrained(tmp_path / "package" / "toys", precision="fp16")


def test_a_name_is_its_folder(toys):
    assert shipped_names() == ["toys"] and shipped("toys") == toys and shipped("other") is None
    assert at_hand(Path("toys")) == toys and shipped_name(toys) == "toys"
    assert shipped_name(toys.parent) is None
    for name in ("toys", Path("toys")):
        assert Pipeline.from_pretrained(name).precision == "fp32"


def test_a_folder_of_that_name_wins_and_is_told_of(toys, tmp_path, capsys):
    Pipeline.from_pretrained("toys").save_pretrained(tmp_path / "toys")
    assert at_hand(Path("toys")) == Path("toys")
    assert capsys.readouterr().err == "toys is the folder here, not the model of the package\n"


def test_a_name_of_nothing_says_which_there_are(toys):
    with pytest.raises(FileNotFoundError, match="no generator in toy: .* did you mean 'toys'"):
        check_there(Path("toy"))
    check_there(toys)


def test_nothing_is_written_into_the_package(toys):
    with pytest.raises(ValueError, match="`maskgit share toys --out FOLDER` copies it"):
        check_own(toys)
    assert results_beside(toys) == Path("runs/toys")
    assert results_beside(Path("runs/x/maskgit")) == Path("runs/x/maskgit")


def test_commands_take_the_name(toys, tmp_path, capsys):
    assert cli("sample", "toys", "--per-label", 1, "--out", "grid.png") == 0
    assert cli("info", "toys") == 0
    assert "float" not in capsys.readouterr().err and (tmp_path / "grid.png").is_file()
    assert cli("share", "toys", "--out", "copy") == 0
    assert cli("sample", "copy", "--per-label", 1, "--out", "again.png") == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "grid.png").read_bytes()


def test_fashion_is_small_whole_and_draws(tmp_path):
    folder = shipped("fashion")
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 6 * 2**20
    bound = json.loads((folder / "config.json").read_text())["sha256"]
    assert bound["model"] == recorded_hash(folder / "model.safetensors", "maskgit")
    pipeline = Pipeline.from_pretrained("fashion")
    assert pipeline.precision == "fp32" and "ankle boot" in pipeline.class_names
    [image] = pipeline.generate(labels=["bag"])
    assert image.size == (28, 28) and image.getextrema()[1] > 200


def test_the_card_of_fashion_says_how_it_was_made():
    text = (shipped("fashion") / "README.md").read_text()
    for words in ("MIT", "maskgit train", "maskgit sample fashion", "## Numbers", "## Training"):
        assert words in text, words
