"""Compiling: whether a training's step is compiled, and how."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskgit.config.sections import TrainConfig
from maskgit.model.draws import Draws
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.processes import this_process

WORTH = 3000
"""Steps from which on compiling, one to two minutes, pays on an accelerator."""


def is_compiled(train: TrainConfig, device: torch.device) -> bool:
    """What `train.compile` says; `auto`: trainings of WORTH steps or more, on accelerators."""
    if train.compile == "auto":
        return device.type != "cpu" and train.steps >= WORTH
    return train.compile


def compile_step(wrapper: NonAutoregressiveWrapper) -> None:
    """Compile the net, its head and the loss of a training step, in one graph for all steps.

    The number of hidden cells differs a little from step to step; nothing else does.
    """
    compiled = torch.compile(wrapper.predict)

    def predict(
        codes: Tensor, draws: Draws, places: Tensor, conditioning: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        torch._dynamo.maybe_mark_dynamic(places, 0)
        return compiled(codes, draws, places, conditioning)

    wrapper.predict = predict  # type: ignore[method-assign]
    if this_process().is_main_process:
        print("the first steps compile the model: a minute or two", file=sys.stderr, flush=True)
