import math
import shutil
from pathlib import Path

import pytest
import torch

from maskgit.data import resident
from maskgit.data.tokenization import tokenize_dataset
from maskgit.pipeline.pipeline import Pipeline
from maskgit.training.checkpoints import load_latest
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train
from tests.training.conftest import changed
from vqgan import weights
from vqgan.tokenizer import Tokenizer
from vqgan.weights import content_hash


def test_shared_vectors_of_codes_with_levels_train_resume_and_draw(tiny_configs, monkeypatch):
    vqgan, generator = tiny_configs
    vqgan = changed(vqgan, model={"quantizer": {"name": "fsq", "levels": [4, 4]}})
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    pipeline = Pipeline.from_pretrained(generator.run)
    assert tuple(pipeline.net.config["code_levels"]) == (4, 4)
    assert [image.size for image in pipeline.generate([0, 1], [0, 1])] == [(16, 16)] * 2
    train(changed(generator, train={"steps": 8}))
    assert load_latest(Path(generator.run)).step == 8
    monkeypatch.setattr(Tokenizer, "code_levels", ())  # as before there were any
    with pytest.raises(
        ValueError, match="a model that this version of maskgit builds differently: set run=..."
    ):
        train(changed(generator, train={"steps": 9}))


def test_accumulation_sees_the_same_images_and_almost_the_same_loss(tiny_configs):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    still = changed(generator, model={"dropout": 0.0}, loss={"condition_dropout": 0.0})
    losses = []
    for accumulate in (1, 2):
        config = changed(
            still, run=f"{generator.run}-{accumulate}", train={"accumulate": accumulate}
        )
        train(config)
        losses.append(
            [
                row["loss"]
                for row in read_metrics(Path(config.run) / "metrics.jsonl")
                if "loss" in row
            ]
        )
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_codes_that_lie_on_the_device_train_the_same(tiny_configs, monkeypatch, tmp_path):
    """Stopped half way and gone on with, in parts: bit for bit, views and all."""
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    generator, ends = changed(generator, train={"accumulate": 2}), []
    for free in (math.inf, 1e6):
        monkeypatch.setattr(resident, "free_memory", lambda device, free=free: free)
        run = str(tmp_path / f"free_{free}")
        config = generator.model_copy(update={"run": run})
        train(config)
        shutil.rmtree(tmp_path / f"free_{free}" / "checkpoints" / "step_00000006")
        train(config)
        ends.append(load_latest(Path(run)).tensors)
    for part, values in ends[0].items():
        assert all(torch.equal(value, ends[1][part][name]) for name, value in values.items()), part


def test_a_stale_cache_is_refused(tiny_configs):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(changed(vqgan, train={"steps": 7}))
    with pytest.raises(ValueError, match="was made by tokenizer"):
        train(generator)


def test_a_tokenizer_that_is_replaced_meanwhile_is_read_once(tiny_configs, monkeypatch):
    """The generator is exported with the tokenizer that its codes are of."""
    vqgan, generator = tiny_configs
    path = train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    wanted, real = content_hash(path, "tokenizer"), weights.load_weights
    other, tensors = real(path, "tokenizer")
    changed_ones = {
        name: tensor + 1 for name, tensor in tensors.items() if tensor.is_floating_point()
    }

    def replaced(where, kind):
        found = real(where, kind)
        if where == path:
            weights.save_weights(
                path, tensors | changed_ones, "tokenizer", {"model": other["model"]}
            )
        return found

    monkeypatch.setattr(weights, "load_weights", replaced)
    folder = train(generator)
    assert content_hash(folder / "tokenizer.safetensors", "tokenizer") == wanted


def test_a_generator_does_not_go_on_with_other_codes(tiny_configs):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    train(changed(vqgan, train={"steps": 7}))
    tokenize_dataset(vqgan.run, generator.codes, overwrite=True)
    with pytest.raises(ValueError, match="was trained with tokenizer .*, not with tokenizer"):
        train(changed(generator, train={"steps": 7}))
