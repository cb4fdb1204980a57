"""What keeps a training on numbers: bad steps are given up, a divergence goes back, ranks agree."""

from __future__ import annotations

import json
import statistics
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from maskgit.config.sections import Config, TrainConfig
from maskgit.data.balance import balanced
from maskgit.data.datasets import Dataset
from maskgit.data.order import StepOrder
from maskgit.training.checkpoints import latest_good
from maskgit.training.learner import Learner, learning_rate_at
from vqgan.files import append

IN_A_ROW = 10
"""Steps that are given up one after the other, until training goes back."""
FACTOR, HIGH_IN_A_ROW = 10.0, 20
"""How many times its running median a loss is, and for how many steps, until training goes back."""
WINDOW, LEAST = 200, 20
"""Losses that the median is of, and how many it takes."""
WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whose bits are those of any number of so many bytes."""
CHECK_EVERY = 100
"""Steps after which all processes must hold the same weights, besides at every save."""


class Guard:
    """Says when a training has diverged; a function of the losses, saved in every checkpoint."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.losses: deque[float] = deque(state.get("losses", ()), maxlen=WINDOW)
        self.high, self.given_up = state.get("high", 0), state.get("given_up", 0)
        self.went_back = state.get("went_back", False)

    @property
    def state(self) -> dict[str, Any]:
        """JSON values, from which it goes on as it was."""
        return {
            "losses": list(self.losses), "high": self.high, "given_up": self.given_up,
            "went_back": self.went_back,
        }  # fmt: skip

    @property
    def in_doubt(self) -> bool:
        """Whether the last steps were given up, or their losses were high: perhaps a divergence."""
        return bool(self.high or self.given_up)

    def gave_up(self) -> bool:
        """A step was given up -> whether that is one too many."""
        self.given_up += 1
        return self.given_up >= IN_A_ROW

    def passed(self, loss: float) -> bool:
        """A step was made, with this loss -> whether training has diverged."""
        self.given_up = 0
        usual = statistics.median(self.losses) if len(self.losses) >= LEAST else loss
        if usual > 0 and loss > FACTOR * usual:
            self.high += 1
            return self.high >= HIGH_IN_A_ROW
        self.high = 0
        self.losses.append(loss)
        return False

    def go_back(self) -> None:
        """Training goes on from a checkpoint; the next divergence ends it."""
        self.high, self.given_up, self.went_back = 0, 0, True


def diverged(run: Path, step: int, train: TrainConfig, reason: str) -> FloatingPointError:
    """The end of a training that cannot go on by itself, with what to do."""
    rate, good = learning_rate_at(step, train, train.learning_rate), latest_good(run)
    there = f"the last good checkpoint is {good}" if good else "no checkpoint was written yet"
    return FloatingPointError(
        f"{reason} at step {step}, learning rate {rate:.3g}; {there}: lower "
        "train.learning_rate or train.clip_norm, then the same command goes on"
    )


def note_given_up(config: Config, step: int, reason: str, dataset: Dataset) -> None:
    """Add to given_up.jsonl: the step, why, and the names of its images (of codes, their rows)."""
    path, size = Path(config.run) / "given_up.jsonl", config.train.batch_size
    balance = balanced(config, dataset)
    [keys] = StepOrder(
        len(dataset), size, seed=config.seed, start=step, stop=step + 1, balance=balance
    )
    source = getattr(dataset, "source", None)
    names = [source.name(index) if source else f"row {index}" for index, _ in keys]
    print(f"gave up step {step}: {reason}; its images are in {path}", file=sys.stderr, flush=True)
    append(path, json.dumps({"step": step, "reason": reason, "images": names}))


def not_finite(tensors: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    """The first of a checkpoint's tensors that is not finite, if any."""
    for file, values in tensors.items():
        for name, tensor in values.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                return f"{file}: {name}"
    return None


def check_alike(accelerator: Accelerator, learners: Mapping[str, Learner[Any]], step: int) -> None:
    """RuntimeError on all processes, with the step, if their weights are not the same bits."""
    named = {
        f"{key}.{name}": tensor
        for key, learner in learners.items()
        for name, tensor in learner.alike().items()
    }
    if accelerator.num_processes == 1 or not named:
        return
    sums = torch.stack([_sum_of_bits(tensor) for tensor in named.values()]).to(accelerator.device)
    rows = accelerator.gather(sums[None])
    for rank, row in enumerate(rows):
        if not torch.equal(row, rows[0]):
            first = list(named)[int((row != rows[0]).nonzero()[0])]
            raise RuntimeError(
                f"the weights of process {rank} are not those of process 0 at step {step} "
                f"({first}): the last checkpoint is good, the machine may not be"
            )


def _sum_of_bits(tensor: Tensor) -> Tensor:
    """int64, the same for the same bits."""
    flat = tensor.detach().contiguous().flatten()
    return flat.view(WHOLE_NUMBERS[flat.element_size()]).sum(dtype=torch.int64)
