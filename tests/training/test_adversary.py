"""A step with a discriminator is the same step in one part and in several, in one process and in
two."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from maskgit import config as configs
from maskgit.config.loading import parse, to_dict
from maskgit.training.checkpoints import checkpoints
from maskgit.training.launch import make_accelerator
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train
from tests.conftest import free_port, repo

EVERYTHING = {
    "discriminator": {"name": "patchgan", "width": 8, "num_layers": 1}, "start_step": 1, "warmup_steps": 3,
    "adaptive": True, "lecam": 0.1, "r1": 1.0, "r1_every": 2, "augment": True, "learning_rate": 1e-2,
}  # fmt: skip


OF_TWO = {
    "fsq": ({"levels": [4, 4]}, 2),
    # codes are restarted by chance
    "vq": (
        {"codebook_size": 16, "codebook_dim": 4, "dead_below": 0.0},
        2,
    ),
    "rvq": ({"codebook_size": 16, "codebook_dim": 4, "dead_below": 0.0}, 2),
    "sim_vq": ({"codebook_size": 16, "codebook_dim": 4}, 2),
    "lfq": ({"codebook_size": 16}, 2),
    "bsq": ({"codebook_size": 16}, 2),
}
"""Quantizers with their options, and in how many parts each of two processes makes a step."""


def config_of(tiny_configs, run, quantizer="fsq", **changed):
    values = to_dict(tiny_configs[0])
    values["loss"]["adversarial"] = EVERYTHING
    values["model"]["quantizer"] = {"name": quantizer, **OF_TWO[quantizer][0]}
    values["train"] |= {"learning_rate": 1e-2, **changed}
    return parse({**values, "run": str(run)}, "test")


def ends_with(run):
    """The last checkpoint's weights of both nets."""
    files = sorted(checkpoints(run)[-1].glob("*.safetensors"))
    return {f"{file.stem} {name}": tensor for file in files for name, tensor in load_file(file).items() if "module" in file.name}  # fmt: skip


def same(one, other):
    assert one.keys() == other.keys() and {name.split()[0] for name in one} == {
        "discriminator.module",
        "tokenizer.module",
    }
    for name, tensor in one.items():
        assert torch.allclose(tensor.float(), other[name].float(), atol=2e-4), name


@pytest.fixture
def whole(tiny_configs, tmp_path):
    train(config_of(tiny_configs, tmp_path / "whole"))
    return ends_with(tmp_path / "whole")


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_whole_step(tiny_configs, tmp_path, whole, parts):
    train(config_of(tiny_configs, tmp_path / "parts", accumulate=parts))
    same(whole, ends_with(tmp_path / "parts"))
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    weights = [
        [row["adversarial_weight"] for row in rows if "adversarial_weight" in row] for rows in logs
    ]
    assert weights[0] == pytest.approx(weights[1], rel=1e-2) and len(set(weights[0])) > 1


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", OF_TWO)
def test_a_step_of_two_processes_is_the_step_of_one(tiny_configs, tmp_path, quantizer):
    train(config_of(tiny_configs, tmp_path / "one", quantizer))
    config = config_of(tiny_configs, tmp_path / "two", quantizer, accumulate=OF_TWO[quantizer][1])
    configs.save(config, tmp_path / "two.yaml")
    command = [sys.executable, "-m", "maskgit", "train", str(tmp_path / "two.yaml")]
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    environment = {**os.environ, **shared, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo())}
    both = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(r), "LOCAL_RANK": str(r)},
            stderr=subprocess.PIPE,
        )
        for r in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-3000:]
    same(ends_with(tmp_path / "one"), ends_with(tmp_path / "two"))


@pytest.mark.parametrize("step", range(5))
def test_lazy_r1_counts_for_the_steps_between(tiny_configs, tmp_path, monkeypatch, step):
    """r1 / 2 |grad D|^2, every r1_every steps and as many times as strong (StyleGAN2,
    arXiv:1912.04958, appendix B)."""
    from maskgit.training.tasks.tokenizer import TokenizerTask

    config = config_of(tiny_configs, tmp_path / "run")
    options = config.loss.adversarial.model_copy(
        update={"r1": 3.0, "r1_every": 4, "lecam": 0.0, "augment": True}
    )
    config = config.model_copy(
        update={"loss": config.loss.model_copy(update={"adversarial": options})}
    )
    adversary = TokenizerTask(config, make_accelerator(config.train, tmp_path)).adversary
    judge, losses = adversary.learner.module, []
    real, fake = torch.rand(2, 4, 1, 16, 16) * 2 - 1
    raw = real.clone().requires_grad_()
    shown = [adversary.shown(side, step, 0, k) for k, side in enumerate((raw, fake), start=1)]
    (slope,) = torch.autograd.grad(judge.net(shown[0]).sum(), raw)
    plain = adversary.losses.discriminator(*(judge.net(side) for side in shown)).item()
    wanted = plain + (0.5 * 3.0 * 4 * slope.square().sum().item() / 4 if step % 4 == 0 else 0.0)
    backward = adversary.accelerator.backward
    monkeypatch.setattr(
        adversary.accelerator, "backward", lambda loss: (losses.append(loss.item()), backward(loss))
    )
    adversary.backward(step, [(real, fake)])
    assert losses == [pytest.approx(wanted, rel=1e-4)]


def test_a_discriminator_too_large_for_the_images_is_refused_at_the_start(tiny_configs, tmp_path):
    config = config_of(tiny_configs, tmp_path / "run")
    large = config.loss.adversarial.model_copy(
        update={"discriminator": "patchgan", "start_step": 3}
    )
    config = config.model_copy(
        update={"loss": config.loss.model_copy(update={"adversarial": large})}
    )
    with pytest.raises(
        ValueError, match="16 pixels are too small for this discriminator: take fewer num_layers"
    ):
        train(config)


def test_the_discriminator_s_rate_runs_on_its_own_clock(tiny_configs, tmp_path):
    from accelerate import Accelerator

    from maskgit.training.learner import learning_rate_at
    from maskgit.training.tasks.tokenizer import TokenizerTask

    config = config_of(tiny_configs, tmp_path / "run", steps=1000, warmup_steps=100)
    late = config.loss.adversarial.model_copy(update={"start_step": 600})
    config = config.model_copy(
        update={"loss": config.loss.model_copy(update={"adversarial": late})}
    )
    learner = TokenizerTask(config, Accelerator(cpu=True)).adversary.learner
    rates = [learning_rate_at(step, learner.train, 1.0) for step in (0, 99, 399)]
    assert rates[0] == pytest.approx(0.01) and rates[1] == 1.0 and rates[2] < 0.05


def test_without_all_parts_the_weight_would_be_another(tiny_configs, tmp_path, whole, monkeypatch):
    """That the comparison above can fail: with the weight of the first part a step ends
    elsewhere."""
    from maskgit.training.tasks.tokenizer import TokenizerTask

    monkeypatch.setattr(TokenizerTask, "weight_of_step", lambda *_: None)
    train(config_of(tiny_configs, tmp_path / "parts", accumulate=4))
    with pytest.raises(AssertionError):
        same(whole, ends_with(tmp_path / "parts"))
