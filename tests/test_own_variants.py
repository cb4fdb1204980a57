"""A variant of one's own is a function or a module and a line in its table: here, touching nothing of the package.

A backbone: tests/model/test_backbones.py.
"""

import json
from typing import Annotated

import numpy as np
import pytest
import torch
from annotated_types import Ge
from PIL import Image
from torch import nn

from maskgit import EDITS, SAMPLERS, SOURCES, Pipeline
from maskgit.config import load, parse
from maskgit.data.sources.source import Source
from maskgit.editing.operations import variation
from maskgit.evaluation.metrics import METRICS, Metric
from maskgit.samplers.engine import Policy, counted, fill, highest
from maskgit.training.trainer import train
from tests.conftest import TINY_TOKENIZER, cli
from vqgan import QUANTIZERS
from vqgan.quantizers.quantized import Quantized, check_range


@pytest.fixture
def saved(tmp_path, tiny_pipeline, image_folder, monkeypatch):
    """A tiny pipeline that knows its data, in a run folder."""
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    source = {"name": "folder", "root": str(image_folder)}
    tiny_pipeline.data = {"source": source, "image_size": 16, "channels": 1}
    tiny_pipeline.class_names = ("bag", "coat")
    tiny_pipeline.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def from_the_middle(
    predictor, codes, seeds, *, steps: int = 4, far: bool = False, refresh: int = 1
):
    """Cells by their distance from the middle of the grid, near ones first."""
    height, width = codes.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2
    near = (distance if far else -distance).flatten().double()

    def nearest(hidden, now):
        left = hidden.flatten(1)
        scores = near.expand(left.shape).masked_fill(~left, -torch.inf)
        return highest(scores, left.sum(1) - now.num_hidden).view_as(hidden)

    rounds = counted("linear", steps)
    yield from fill(predictor, codes, seeds, Policy(cells=nearest), rounds=rounds, refresh=refresh)


def test_a_sampler(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(SAMPLERS, "from_the_middle", from_the_middle)
    pipeline = Pipeline.from_pretrained(saved)
    first, *_, last = pipeline.rounds([0], [3], sampler="from_the_middle", steps=4)
    hidden = first[0] == pipeline.model.mask_id
    assert not hidden[1:3, 1:3].any() and hidden[0].all() and (last < 16).all()
    spec = "{name: from_the_middle, far: true}"
    assert cli("sample", saved, "--sampler", spec, "--out", tmp_path / "a.png") == 0
    set_it = ["--sampler", "from_the_middle", "--set", "sampler.far=true"]
    assert cli("sample", saved, *set_it, "--out", tmp_path / "b.png") == 0
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png")]
    assert (pictures[0] == pictures[1]).all()
    assert (
        parse(
            {"task": "maskgit", "sampler": {"name": "from_the_middle", "steps": 3.0}}, "c"
        ).sampler["steps"]
        == 3
    )
    with pytest.raises(ValueError, match="has no option 'farr', did you mean 'far'"):
        parse({"task": "maskgit", "sampler": {"name": "from_the_middle", "farr": 1}}, "c")


def stripes(split, *, num_images: int = 24):
    """Stripes across or down."""
    images = np.zeros((num_images, 16, 16), np.uint8)
    images[::2, ::4], images[1::2, :, ::4] = 255, 255
    labels = np.arange(num_images) % 2
    return Source(
        lambda i: Image.fromarray(images[i]), labels, ("across", "down"), lambda i: f"{split}[{i}]"
    )


class Thresholds(nn.Module):
    """The sign of each of a few numbers, by a step that passes its gradient on."""

    def __init__(self, dim, *, bits: Annotated[int, Ge(1)] = 4):
        super().__init__()
        self.into, self.back = nn.Conv2d(dim, bits, 1), nn.Conv2d(bits, dim, 1)
        self.codebook_size, self.bits = 2**bits, bits

    remedy = "take fewer bits"

    def forward(self, latents, accumulate=False):
        numbers = self.into(latents)
        signs = torch.where(numbers > 0, 1.0, -1.0)
        codes = ((signs > 0) * 2 ** torch.arange(self.bits).view(-1, 1, 1)).sum(1)
        through = numbers + (signs - numbers).detach()
        return Quantized(self.back(through), codes, latents.new_zeros(()))

    def lookup(self, codes):
        check_range(codes, self.codebook_size)
        signs = (codes[:, None] >> torch.arange(self.bits).view(-1, 1, 1)) % 2
        return self.back(signs * 2.0 - 1)


def test_a_source_and_a_quantizer(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "stripes", stripes)
    monkeypatch.setitem(QUANTIZERS, "thresholds", Thresholds)
    config = tmp_path / "vqgan.yaml"
    config.write_text(
        f"task: tokenizer\nrun: {tmp_path / 'vqgan'}\n"
        "data: {source: {name: stripes, num_images: 16}, image_size: 16}\n"
        f"model: {json.dumps({**TINY_TOKENIZER, 'quantizer': {'name': 'thresholds', 'bits': 5}})}\n"
        "train: {steps: 3, batch_size: 8, precision: fp32, trackers: []}\n"
    )
    train(load(config))
    assert cli("tokenize", tmp_path / "vqgan", "--out", tmp_path / "codes") == 0
    assert cli("info", tmp_path / "codes") == 0
    manifest = json.loads((tmp_path / "codes" / "manifest.json").read_text())
    assert manifest["codebook_size"] == 32 and manifest["class_names"] == ["across", "down"]
    with pytest.raises(ValueError, match="bits: Input should be greater than or equal to 1"):
        load(config, ["model.quantizer.bits=0"])
    with pytest.raises(ValueError, match="has no option 'num_imags', did you mean 'num_images'"):
        load(config, ["data.source={name: stripes, num_imags: 3}"])


def mean_distance(real, fake):
    """How far the mean features are apart."""
    return {"mean_distance": float(np.abs(real.mean - fake.mean).sum())}


def test_a_metric(saved, tmp_path, monkeypatch, classifier_file):
    monkeypatch.setitem(METRICS, "mean_distance", Metric(mean_distance, ("real", "fake"), "lower"))
    words = ["--features", "classifier", "--weights", classifier_file, "--count", 20, "--steps", 2]
    assert (
        cli("evaluate", saved, *words, "--metrics", "mean_distance", "--out", tmp_path / "out") == 0
    )
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())["numbers"]
    assert numbers["mean_distance"]["value"] > 0 and numbers["mean_distance"]["better"] == "lower"


@pytest.fixture
def classifier_file(tmp_path):
    from vqgan import Classifier

    path = tmp_path / "judge.safetensors"
    Classifier(channels=1, num_classes=2, width=8).save(path, {"class_names": ["bag", "coat"]})
    return path


def mirrored(
    pipeline, image, *, label, seed=0, share: Annotated[float, Ge(0), "share kept"] = 0.5, **options
):
    """Turned about, and a part of it drawn anew."""
    return variation(pipeline, image.flip(-1), label=label, seed=seed, keep=share, **options)


def test_an_edit(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(EDITS, "mirrored", mirrored)
    out = ["--label", "coat", "--out", tmp_path / "out"]
    assert cli("edit", "mirrored", saved, "validation:1", "--share", "0.9", *out) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert cli("edit", "--help") == 0
    assert "--share" in capsys.readouterr().out
    assert cli("edit", "inpaint", saved, "validation:1", "--share", "0.9", *out) == 2
    assert "inpaint has no --share" in capsys.readouterr().err
