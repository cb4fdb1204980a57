"""Means of what steps log, over the steps between two logs and over all processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor


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
