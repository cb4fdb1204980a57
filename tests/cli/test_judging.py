from pathlib import Path

import pytest

from maskgit.cli.judging import AUTO, judge_path


@pytest.fixture
def trained(monkeypatch):
    configs = []
    monkeypatch.setattr("maskgit.training.trainer.train", configs.append)
    return configs


def test_what_is_named_is_taken(trained):
    assert judge_path(Path("run"), Path("other")) == Path("other")
    assert judge_path(Path("run"), None) is None and not trained


def test_auto_trains_one_beside_the_run_on_its_images(tiny_pipeline, tmp_path, trained):
    tiny_pipeline.data = {
        "source": {"name": "folder", "root": "images"},
        "image_size": 16,
        "channels": 3,
    }
    run = tmp_path / "mine" / "maskgit"
    tiny_pipeline.save_pretrained(run / "pipeline")
    assert judge_path(run, AUTO) == tmp_path / "mine" / "classifier"
    [config] = trained
    assert config.run == str(tmp_path / "mine" / "classifier")
    assert config.data.model_dump(include={"source", "channels"})["channels"] == 3


def test_auto_needs_a_run_and_its_images(tiny_pipeline, tmp_path, trained):
    with pytest.raises(ValueError, match="name the judge's run"):
        judge_path(None, AUTO)
    tiny_pipeline.save_pretrained(tmp_path / "maskgit")
    with pytest.raises(ValueError, match="does not say what images"):
        judge_path(tmp_path / "maskgit", AUTO)
    assert not trained
