"""No waiting: a step of every task never asks a device for a value, which is counted on `meta`.

Whole steps: batches go up, both nets learn, fused AdamW steps, averages follow, logs are added up.
"""

import math
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch.optim import adam
from x_transformers import x_transformers

from maskgit.config.loading import parse, to_dict
from maskgit.data import resident
from maskgit.data.tokenization import tokenize_dataset
from maskgit.model import wrapper
from maskgit.training.meter import Meter
from maskgit.training.tasks import TASKS, classifier, critic, maskgit
from maskgit.training.tasks.reconstruction import Comparison
from maskgit.training.trainer import train
from tests.training.conftest import changed
from tests.waits import Waits, hurry
from vqgan.classifier import Classifier
from vqgan.quantizers import QUANTIZERS

QUANTIZER = {
    "fsq": {"levels": [4, 4]},
    "lfq": {"codebook_size": 16},
    "bsq": {"codebook_size": 16},
    "vq": {"codebook_size": 16, "codebook_dim": 4},
    "rvq": {"codebook_size": 16, "codebook_dim": 4},
    "sim_vq": {"codebook_size": 16, "codebook_dim": 4},
}
DISCRIMINATORS = {
    "none": {},
    "patchgan": {"name": "patchgan", "width": 8, "num_layers": 1},
    "stylegan": {"name": "stylegan", "width": 8, "num_layers": 1},
}
EVERYTHING = {
    "start_step": 0, "warmup_steps": 3, "adaptive": True, "lecam": 0.1, "r1": 1.0, "r1_every": 2,
    "augment": True,
}  # fmt: skip


@pytest.fixture
def accelerator(monkeypatch):
    """One process on `meta`, which has a fused AdamW for these tests, no autocast, and no
    generator of its own."""
    hurry(monkeypatch)
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
    for place in (torch, x_transformers):
        monkeypatch.setattr(place, "autocast", lambda kind, **own: nullcontext())
    monkeypatch.setattr(wrapper, "uncached_autocast", lambda device: nullcontext())
    for place in (classifier, critic, maskgit):
        real = place.generator

        def generator(*parts, device="cpu", real=real):
            return real(*parts) if torch.device(device).type == "cpu" else None

        monkeypatch.setattr(place, "generator", generator)
    return SimpleNamespace(
        device=torch.device("meta"), num_processes=1, process_index=0, is_main_process=True,
        prepare=lambda module: module, no_sync=lambda module: nullcontext(),
        autocast=nullcontext, reduce=lambda value, how="sum": value,
        backward=lambda loss: loss.backward(),
    )  # fmt: skip


def waits_of(config, accelerator, steps=3):
    """What waits in a few steps -> (names of operations, how many ran on the device)."""
    task = TASKS[config.task](config, accelerator)
    parts, meter = config.train.accumulate, Meter()
    keys = [(index % len(task.dataset), 0) for index in range(config.train.batch_size)]
    size = len(keys) // parts
    waits = Waits()
    for step in range(steps):
        batches = [task.dataset.__getitems__(keys[n * size : (n + 1) * size]) for n in range(parts)]
        with waits:
            for learner in task.learners.values():
                learner.keep_buffers()
            meter.add(task.update(step, batches))
    assert next(iter(task.learners.values())).outcome.is_open
    return waits.found, waits.seen


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_tokenizer_s(tiny_configs, accelerator, quantizer, discriminator, accumulate):
    options = DISCRIMINATORS[discriminator]
    config = changed(
        tiny_configs[0],
        model={"quantizer": {"name": quantizer, **QUANTIZER[quantizer]}},
        loss={"adversarial": EVERYTHING | {"discriminator": options}} if options else {},
        train={"accumulate": accumulate},
    )
    found, seen = waits_of(config, accelerator)
    assert found == [] and seen > 300


@pytest.mark.parametrize("name", ["classifier", "torchvision"])
def test_a_tokenizer_s_with_a_perceptual_loss(tiny_configs, accelerator, tmp_path, name):
    own = {"weights": str(tmp_path / "classifier.safetensors")}
    if name == "torchvision":
        own = {"weights": str(tmp_path / "net.pth"), "model": "mobilenet_v2", "layers": [2, 4]}
        torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), own["weights"])
    else:
        Classifier(channels=1, num_classes=2, width=8).save(own["weights"], {})
    config = changed(tiny_configs[0], loss={"perceptual": {"name": name, **own}})
    found, seen = waits_of(config, accelerator)
    assert found == [] and seen > 300


def test_a_classifier_s(tiny_configs, accelerator, tmp_path):
    values = to_dict(tiny_configs[0])
    values = {key: values[key] for key in ("data", "train")} | {"run": str(tmp_path / "c")}
    config = parse({"task": "classifier", "model": {"width": 8}, **values}, "test")
    found, seen = waits_of(config, accelerator)
    assert found == [] and seen > 100


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The folder of a tiny tokenizer's run, of its codes and of a generator's."""
    return tmp_path_factory.mktemp("stages")


@pytest.fixture
def generator(tiny_configs, stages):
    """The config of a generator whose codes are there."""
    vqgan, generator = tiny_configs
    if not any(stages.iterdir()):
        vqgan = changed(vqgan, train={"steps": 1, "eval_every": 9, "preview_every": 9})
        train(vqgan)
        tokenize_dataset(vqgan.run, generator.codes)
        shutil.copytree(vqgan.run, stages / "vqgan")
        shutil.copytree(generator.codes, stages / "codes")
    places = {"tokenizer": str(stages / "vqgan"), "codes": str(stages / "codes")}
    return generator.model_copy(update=places)


GENERATORS = {
    "plain": {},
    "parts": {"train": {"accumulate": 2}},
    "rotary": {"model": {"positions": "rotary"}},
    "mdlm": {"loss": {"use_simple_mdlm_loss_weight": True}},
    "image": {"loss": {"normalization": "image", "visible_weight": 0.1, "no_replace_prob": 0.1}},
    "self-conditioned": {
        "loss": {"self_cond": True, "self_token_critic": True, "random_token_prob": 0.1}
    },
    "with critic": {"critic": {"dim": 8, "depth": 1, "heads": 1, "dim_head": 8}},
}


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("free", [math.inf, 1e6])
def test_a_generator_s(generator, accelerator, monkeypatch, kind, free):
    """Also where its codes lie on the device."""
    monkeypatch.setattr(resident, "free_memory", lambda device: free)
    found, seen = waits_of(changed(generator, **GENERATORS[kind]), accelerator)
    assert found == [] and seen > 300


def test_a_critic_s(generator, accelerator, tmp_path):
    config = changed(generator, train={"steps": 1, "eval_every": 9, "preview_every": 9})
    config = config.model_copy(update={"run": str(tmp_path / "generator")})
    train(config)
    values = to_dict(generator)
    values = {key: values[key] for key in ("codes", "model", "train")} | {
        "task": "critic", "run": str(tmp_path / "critic"), "generator": config.run,
        "sampler": {"name": "critic", "steps": 3},
    }  # fmt: skip
    found, seen = waits_of(parse(values, "test"), accelerator)
    assert found == [] and seen > 100


@pytest.mark.parametrize(
    "wait",
    [
        lambda loss: loss.item(),
        lambda loss: loss.cpu(),
        lambda loss: loss + torch.ones(1).to(loss.device),
        lambda loss: loss + torch.tensor(1.0, device=loss.device),
        lambda loss: loss.expand(3)[[0, 2]],
        lambda loss: loss.expand(3)[torch.tensor([0, 2])],
        lambda loss: loss.expand(3)[loss.expand(3) > 0],
        lambda loss: torch.equal(loss, loss),
        lambda loss: torch.where(loss > 0),
    ],
)
def test_a_wait_in_a_step_would_be_counted(tiny_configs, accelerator, monkeypatch, wait):
    """Each is one that a step could hold."""
    waited, real = [], Comparison.__call__

    def waiting(self, images, targets):
        compared = real(self, images, targets)
        try:
            wait(compared.loss)
        except (RuntimeError, NotImplementedError):  # `meta` has no values
            waited.append(compared.loss)
        return compared

    monkeypatch.setattr(Comparison, "__call__", waiting)
    found, _ = waits_of(tiny_configs[0], accelerator, steps=1)
    assert len(found) == 1
