import json
from functools import partial

import pytest

from maskgit.benchmark import quality


@pytest.mark.slow
def test_quality_end_to_end(tmp_path, monkeypatch, capfd):
    """Seconds of training on digits: both lines are written, with their grids and times."""
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(quality, "CALIBRATION", 30)
    monkeypatch.setattr(quality, "CHOICES", quality.CHOICES[:2])
    monkeypatch.setattr(quality, "OUR_CHOICES", ({}, {"guidance": 1.0}))
    few = ["train.max_eval_images=100"]
    small = {
        "classifier": ["train.steps=20", *few], "witness": ["train.steps=20", *few], "vqgan": ["model.widths=[8,8]", *few],
        "maskgit": ["model.dim=16", "model.depth=1", "sampler.steps=2", *few],
    }  # fmt: skip
    monkeypatch.setattr(quality, "OVERRIDES", small)
    text = quality.run_quality([0.03, 0.03], 60, tmp_path / "out", data="mnist")
    found = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert set(found["lines"]) == {"ours", "plain"} and found["lines"]["plain"]["fid"]["value"] > 0
    assert found["seconds"]["plain: generator"] == pytest.approx(
        found["seconds"]["ours: generator"], abs=5
    )
    for name in ("ours.png", "plain.png", "ours/neighbours.png", "plain/samples.png"):
        assert (tmp_path / "out" / name).is_file()
    assert "| real images |" in text and "sampler of ours: " in text
    for line in found["lines"].values():
        assert line["fid_witness"]["value"] > 0 and 0 < line["c2st_reconstructions"]["value"] <= 1
        assert "the scout's FID of 60: " in line["sampler"] and 0 < line["c2st"]["value"] <= 1
    assert "; worst ratio: " in text
    again = partial(quality.run_quality, [0.03, 0.03], 60, tmp_path / "out", data="mnist")
    # run again, what is there is not made anew
    for name in ("train_ours", "train_plain", "draw_ours"):
        monkeypatch.setattr(quality, name, lambda *args: pytest.fail("what is there is made again"))
    with monkeypatch.context() as patch:
        patch.setattr(
            quality, "draw_plain", lambda *args: pytest.fail("what is there is made again")
        )
        assert again().splitlines()[:5] == text.splitlines()[:5]
    # now the plain side is drawn, with its kept weights
    monkeypatch.setattr(quality, "CHOICES", quality.CHOICES[:1])
    again()
    only = json.loads((tmp_path / "out" / "quality.json").read_text())["lines"]["plain"]["sampler"]
    tried = only.partition(": ")[2].rstrip(")")
    assert tried and tried in found["lines"]["plain"]["sampler"]
