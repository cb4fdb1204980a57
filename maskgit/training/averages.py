"""Numbers on a validation split, shared out among processes, and means over its batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor

from maskgit.data.datasets import Batch, Dataset
from maskgit.data.order import batches, in_order, spread
from maskgit.stopping import stop_requested

BATCH_SIZE = 100
"""Of validation images, always: what is drawn at random is drawn for a batch."""


def shared_batches(
    dataset: Dataset, num_images: int, accelerator: Accelerator, *, workers: int = 0
) -> Iterator[tuple[int, Batch]]:
    """(number, batch) of this process, of at most num_images spread evenly over the data set.

    number: of the batch among those of all processes, of which process r of n takes every n-th.
    Ends early where a signal asks to stop: then what was measured is of no use.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    order = in_order(spread(len(dataset), num_images), BATCH_SIZE, rank=rank, world=world)
    for turn, batch in enumerate(batches(dataset, order, workers=workers)):
        if stop_requested():
            return
        yield turn * world + rank, batch


class Averages:
    """Means of named values over the batches of all processes: sums in float64, exchanged once.

    Values wait where they are, and are summed on the CPU in the end: no batch waits for a device,
    and some have no float64. All names are told beforehand, since a process may have no batch.
    """

    def __init__(self, accelerator: Accelerator, *names: str) -> None:
        self.accelerator = accelerator
        self.values: dict[str, list[Tensor]] = {name: [] for name in names}
        self.counts = dict.fromkeys(names, 0)

    def add(self, name: str, values: Tensor, count: int) -> None:
        """So many values, or sums of them, in a tensor of any shape."""
        self.values[name].append(values.detach().flatten())
        self.counts[name] += count

    def means(self) -> dict[str, float]:
        """Over all processes, on each of them; nan where there was no value."""
        totals = [_sum_of(values) for values in self.values.values()]
        sums = torch.tensor([totals, list(self.counts.values())], dtype=torch.float64)
        if self.accelerator.num_processes > 1:  # alone, a device need not have float64
            sums = self.accelerator.reduce(sums.to(self.accelerator.device)).cpu()
        totals, counts = sums
        return dict(zip(self.values, (totals / counts).tolist(), strict=True))


def _sum_of(values: list[Tensor]) -> float:
    return torch.cat(values).cpu().double().sum().item() if values else 0.0
