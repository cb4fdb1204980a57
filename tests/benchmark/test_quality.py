import json
from functools import partial

import pytest

from maskgit.benchmark import (
    quality,
)


def test_the_kind_of_features_that_sees_the_least_decides():
    def line(**fids):
        return {name: {"value": value} for name, value in fids.items()} | {"steps": "1 + 1"}

    ours, plain = (
        line(fid=2.0, recall=0.9, fid_witness=4.0),
        line(fid=12.0, recall=0.1, fid_witness=6.0),
    )
    found = quality.worst_ratio(ours, plain)
    assert found == "plain over ours: fid 6, fid_witness 1.5; worst ratio: 1.5 (fid_witness)"


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
    assert found["lines"]["ours"]["fid_witness"]["value"] > 0 and "; worst ratio: " in text
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
