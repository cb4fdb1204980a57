"""Means of what steps log, over the steps between two logs and over all processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor

from maskgit.machine import wait


class Stopwatch:
    """The seconds of the steps, on the host and on the device, without what lies between them."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call, pauses left out."""
        before, self.since = self.since, time.perf_counter()
        return self.since - before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside does not count; the device does first what it was told before."""
        wait()
        start = time.perf_counter()
        yield
        wait()
        self.since += time.perf_counter() - start


class Meter:
    """Sums on the device; nothing is asked of it but by `means`."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        # of what is in `sums`: a discriminator joins between two logs
        self.counts: Counter[str] = Counter()

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """A step's."""
        for key, value in logs.items():
            self.sums[key] = self.sums.get(key, torch.zeros_like(value)) + value
            self.counts[key] += 1

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """What was added since the last call; nothing if all steps were given up."""
        sums, counts = self.sums, self.counts
        self.sums, self.counts = {}, Counter()
        if not sums:
            return {}
        parts = torch.stack([(value / counts[key]).float() for key, value in sums.items()])
        means = accelerator.reduce(parts, "mean").tolist()
        return dict(zip(sums, means, strict=True))
