import json

import pytest

from maskgit.cli import quickstart
from maskgit.cli.quickstart import run_quickstart


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The overrides of three stages of a few steps each."""
    monkeypatch.setattr(quickstart, "NUM_JUDGED", 20)
    monkeypatch.setattr(quickstart, "NUM_REAL", 40)
    runs = [f"{stage}.run={tmp_path / stage}" for stage in quickstart.STAGES]
    few = [
        f"{stage}.train.{word}"
        for stage in quickstart.STAGES
        for word in ("steps=2", "max_eval_images=20", "precision=fp32", "trackers=[]")
    ]
    small = ["vqgan.model.widths=[8,8]", "maskgit.model.dim=16", "maskgit.model.depth=1", "maskgit.sampler.steps=2"]  # fmt: skip
    where = [f"maskgit.tokenizer={tmp_path / 'vqgan'}", f"maskgit.codes={tmp_path / 'codes'}"]
    return [*runs, *few, *small, *where]


@pytest.mark.slow
def test_three_configs_become_pictures_and_a_report_and_again_all_is_there(tiny, tmp_path, capfd):
    text = run_quickstart("mnist", tiny)
    for name in ("grid.png", "strip.png", "reconstructions.png", "curves.png"):
        assert (tmp_path / name).is_file() and str(tmp_path / name) in text
    assert "of 20 samples" in text and "on the 40 held-out real images" in text
    before = json.loads((tmp_path / "stages.json").read_text())
    capfd.readouterr()
    run_quickstart("mnist", tiny)
    after = json.loads((tmp_path / "stages.json").read_text())
    assert capfd.readouterr().err.count(" already") == 4, "three trainings and the codes"
    assert after["train the generator"] > before["train the generator"], "seconds of both calls"


def test_fresh_removes_what_was_there(tiny, tmp_path, monkeypatch):
    def stop(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "train", stop)
    old = [tmp_path / "vqgan" / "old", tmp_path / "codes" / "old", tmp_path / "mine"]
    for path in old:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for fresh in (False, True):
        with pytest.raises(KeyboardInterrupt):
            run_quickstart("mnist", tiny, fresh=fresh)
        assert [path.exists() for path in old] == [not fresh, not fresh, True]


def test_a_folder_without_the_three_configs_is_refused():
    with pytest.raises(FileNotFoundError, match="no config nowhere/vqgan"):
        run_quickstart("nowhere")
