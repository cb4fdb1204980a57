import json

import pytest

from maskgit.benchmark import (
    tokenizers,
)
from maskgit.config.loading import load
from maskgit.evaluation.features import load_features
from maskgit.training.trainer import train


@pytest.mark.slow
def test_tokenizers_end_to_end_and_again(tmp_path, monkeypatch):
    """Lines are trained and measured; run again, nothing is trained or measured any more."""
    monkeypatch.setattr(
        tokenizers, "QUANTIZERS", {k: tokenizers.QUANTIZERS[k] for k in ("fsq", "rvq")}
    )
    monkeypatch.setattr(
        tokenizers, "LOSSES", {k: tokenizers.LOSSES[k] for k in ("perceptual", "perceptual + GAN")}
    )
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    few = ["train.max_eval_images=20", "train.precision=fp32", "train.trackers=[]"]
    train(load("mnist/classifier", [f"run={tmp_path}/classifier", "train.steps=4", *few]))
    networks = {"": load_features("classifier", tmp_path / "classifier")}
    networks["_witness"] = load_features("witness", tmp_path / "classifier")
    place = tokenizers.Place(
        "mnist", tmp_path / "out", tmp_path / "classifier", ("model.widths=[8,8]", *few)
    )
    text = tokenizers.compare(place, networks, 0.5, 1, 40, [])
    lines = json.loads((tmp_path / "out" / "tokenizers.json").read_text())["lines"]
    assert list(lines) == [*tokenizers.lines_of(), "plain"] and "fsq + perceptual + GAN" in lines
    for [found] in lines.values():
        assert found["rfid"]["value"] == found["rfid_witness"]["value"] > 0
        assert found["psnr"]["value"] > 0 and found["steps"] >= 1
    assert (tmp_path / "out" / "tokenizers.png").stat().st_size > 5000
    monkeypatch.setattr(tokenizers, "measure_tokenizer", None)
    assert tokenizers.compare(place, networks, 0.5, 1, 40, []) == text
    assert tokenizers.compare(place, networks, 0.5, 1, 40, ["fsq"]) == text, (
        "one line leaves the others in the table"
    )


def test_lines_of_the_tokenizer_table_are_configs_that_differ(tmp_path):
    for data in tokenizers.DATA:
        place = tokenizers.Place(data, tmp_path, tmp_path / "weights")
        found = [
            str(place.config(line, 0, 30).model_dump(exclude={"run"}))
            for line in tokenizers.lines_of()
        ]
        assert len(set(found)) == len(found)
        gan = place.config("fsq + GAN", 0, 30).loss.adversarial
        assert gan.start_step == 30 and place.config("fsq + perceptual").loss.adversarial is None
