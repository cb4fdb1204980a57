"""Compiling: whether a training's step is compiled, and how."""

from __future__ import annotations

import sys

import torch

from maskgit.config.sections import TrainConfig
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.processes import this_process

WORTH = 3000
"""Steps from which on compiling, one to two minutes, pays on an accelerator."""


def is_compiled(train: TrainConfig, device: torch.device) -> bool:
    """What `train.compile` says; `auto`: trainings of WORTH steps or more, on accelerators.

    ValueError where weights are in shards.
    """
    if train.shard and train.compile is True:
        raise ValueError("train.shard=true: such a step is not compiled, set train.compile=auto")
    if train.compile == "auto":
        return not train.shard and device.type != "cpu" and train.steps >= WORTH
    return train.compile


def compile_step(wrapper: NonAutoregressiveWrapper) -> None:
    """Compile the net, its head and the loss of a training step, in one graph for all steps.

    On CUDA it is recorded, too, and replayed: small batches then keep the device busy.
    """
    wrapper.is_compiled = True
    mode = "reduce-overhead" if torch.cuda.is_available() else None
    wrapper.predict = torch.compile(wrapper.predict, mode=mode)  # type: ignore[method-assign]
    if this_process().is_main_process:
        print("the first steps compile the model: a minute or two", file=sys.stderr, flush=True)
