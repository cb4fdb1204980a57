"""One accelerator's bench: the sizes to run, the nets, their training steps, time and memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from maskgit.benchmark.plan import talk
from maskgit.benchmark.timing import operations
from maskgit.config.sections import TrainConfig
from maskgit.machine import seconds_of, upload
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.randomness import generator
from maskgit.training.compiling import compile_step
from maskgit.training.launch import make_accelerator
from maskgit.training.learner import Learner, finish

CODES, CLASSES = 1024, 1000


@dataclass(frozen=True)
class Scale:
    """The sizes. `nets` are trained; the last one, MaskGIT's, is also compiled, and sampled."""

    nets: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "5 M": {"dim": 256, "depth": 4, "heads": 4},
            "25 M": {"dim": 512, "depth": 5, "heads": 8},
            "24 layers of 768": {"dim": 768, "depth": 24, "heads": 12},
        }
    )
    side: int = 16
    batch: int = 32
    most: int = 512
    samples: tuple[int, ...] = (1, 8, 64)
    rounds: tuple[int, ...] = (8, 12)
    image_size: int = 256
    tokenizer: str | Mapping[str, Any] = "imagenet256/vqgan"
    images: int = 64
    turns: int = 4
    peers: int = 25  # millions of parameters
    longest: float = 330.0


@dataclass
class Bench:
    """One run of the benchmark."""

    scale: Scale
    scratch: Path
    device: torch.device
    peak: float  # operations a second that shares are of
    start: float = field(default_factory=time.perf_counter)

    def late(self, part: str) -> bool:
        """Whether there is no time left, which is said."""
        is_late = time.perf_counter() - self.start > self.scale.longest
        if is_late:
            talk(f"{part}: left out, there was no time left")
        return is_late

    def net(self, name: str) -> NonAutoregressiveWrapper:
        """A wrapper around one of the nets, on the device."""
        torch.manual_seed(0)
        side = self.scale.side
        net = Transformer(
            codebook_size=CODES, grid=(side, side), num_classes=CLASSES, **self.scale.nets[name]
        )
        return NonAutoregressiveWrapper(net, mask_id=CODES).to(self.device)

    def seconds(self, work: Callable[[], object], warm: int = 2) -> float:
        """The median of some runs."""
        for _ in range(warm):
            work()
        return median(seconds_of(work) for _ in range(self.scale.turns))


class Steps:
    """Steps of a training, as the trainer makes them, on one batch of random codes."""

    def __init__(self, bench: Bench, name: str, compiled: bool = False) -> None:
        train = TrainConfig(precision="bf16", trackers=())
        self.accelerator = make_accelerator(train, bench.scratch)
        self.bench, self.wrapper = bench, bench.net(name).train()
        self.learner = Learner(self.wrapper, self.accelerator, train)
        if compiled:
            compile_step(self.wrapper)
        self.number = 0

    def of(self, batch: int) -> Callable[[], None]:
        """A step of so many grids."""
        grid, device = (self.bench.scale.side, self.bench.scale.side), self.bench.device
        codes = torch.randint(CODES, (batch, *grid))
        labels = torch.randint(CLASSES, (batch,))

        def step() -> None:
            draws = self.wrapper.draw(batch, grid, generator("benchmark", self.number))
            torch.compiler.cudagraph_mark_step_begin()
            losses = self.learner.ddp(
                upload(codes, device), condition=upload(labels, device), draws=draws
            )
            self.accelerator.backward(losses.loss)
            finish(losses.loss, (self.learner, self.number))
            self.number += 1

        return step

    def operations(self) -> float:
        """Of a step, for each grid: counted, not estimated."""
        return operations(self.of(2)) / 2


def doubled(first: int, most: int) -> list[int]:
    """first, twice that, ... up to most."""
    found = [first]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    return found


def fits(work: Callable[[], float]) -> float | None:
    """None if there is too little memory."""
    try:
        return work()
    except torch.OutOfMemoryError:
        tidy()
        return None


def tidy() -> None:
    """Give back the memory that nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def held_memory() -> Iterator[list[float]]:
    """The most GiB that the accelerator holds inside; 0 on a CPU."""
    found = [0.0]
    if torch.accelerator.is_available():
        torch.accelerator.reset_peak_memory_stats()
    yield found
    if torch.accelerator.is_available():
        found[0] = torch.accelerator.max_memory_allocated() / 2**30
