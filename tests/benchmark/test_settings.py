import json

from maskgit.benchmark import (
    settings,
)
from maskgit.config.loading import load
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training.trainer import train


def test_settings_end_to_end_and_again(tmp_path, monkeypatch):
    """Settings are trained and measured; run again, nothing is trained or measured any more."""
    chosen = {name: settings.SETTINGS[name] for name in ("plain", *settings.WITH_CRITIC)}
    monkeypatch.setattr(settings, "SETTINGS", chosen)
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    few = [
        "train.steps=4",
        "train.max_eval_images=50",
        "train.precision=fp32",
        "train.trackers=[]",
    ]
    out = tmp_path / "out"
    train(load("mnist/vqgan", [f"run={out}/vqgan", "model.widths=[8,8]", *few]))
    tokenize_dataset(out / "vqgan", out / "codes")
    train(load("mnist/classifier", [f"run={out}/classifier", *few]))
    small = (
        "model.dim=16",
        "model.depth=1",
        "model.heads=2",
        "model.dim_head=8",
        "sampler.steps=2",
        *few[1:],
    )
    place = settings.Place("mnist", out, small)
    monkeypatch.setattr(settings, "NOISES", (1.0, 4.0))
    text = settings.compare(place, 0.002, 1, 20)
    lines = json.loads((out / "settings.json").read_text())["lines"]
    assert set(lines) == {*settings.SETTINGS, "self-critic, not asked", "token-critic, not asked"}
    assert all(
        len(found) == 1 and found[0]["bits_per_code"]["value"] > 0 for found in lines.values()
    )
    assert lines["token-critic"][0]["sampler"]["name"] == "critic"
    assert lines["token-critic, not asked"][0]["sampler"]["name"] == "confidence"
    assert (out / "settings.png").is_file() and "| real images |" in text
    monkeypatch.setattr(settings, "measured", None)
    assert settings.compare(place, 0.002, 1, 20) == text


def test_every_setting_is_a_config_that_differs(tmp_path):
    found = {}
    for name, stages in settings.SETTINGS.items():
        configs = [
            settings.Place("fashion_mnist", tmp_path).config(stage, name, 0) for stage in stages
        ]
        found[name] = str([config.model_dump(exclude={"run", "generator"}) for config in configs])
    assert len(set(found.values())) == len(settings.SETTINGS)
