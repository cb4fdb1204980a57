"""Which images come when: a training step's are a function of (seed, step) alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from maskgit.data.balance import Balanced
from maskgit.data.datasets import Batch, Dataset
from maskgit.machine import give_memory_back
from maskgit.randomness import permutation
from maskgit.stopping import leave_to_parent


class StepOrder:
    """The (index, epoch) pairs of each micro-batch of one process, from step `start` to `stop`.

    Step s sees positions s B .. (s + 1) B - 1 of the endless sequence of shuffled epochs, whatever
    the number of processes; process r of n takes every n-th, in `accumulate` parts. balance: an
    order in which classes come more or less often than images of them are there.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        *,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        balance: Balanced | None = None,
    ) -> None:
        if batch_size % (world * accumulate):
            raise ValueError(
                f"train.batch_size={batch_size} is the batch of a whole step: it must divide by "
                f"{world} processes x accumulate={accumulate}"
            )
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.start, self.stop = start, stop
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self.balance = balance

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for step in range(self.start, self.stop):
            positions = step * self.batch_size + np.arange(self.batch_size)
            keys = []
            for position in positions[self.rank :: self.world].tolist():
                epoch, offset = divmod(position, self.num_items)
                if epoch not in orders:
                    orders = {e: o for e, o in orders.items() if e >= epoch - 1}
                    orders[epoch] = self._epoch(epoch)
                indices, times = orders[epoch]
                keys.append((int(indices[offset]), int(times[offset])))
            size = len(keys) // self.accumulate
            for part in range(self.accumulate):
                yield keys[part * size : (part + 1) * size]

    def _epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The index of each item, and a number that tells its returns apart."""
        if self.balance is not None:
            return self.balance.epoch(number)
        order = permutation(self.num_items, self.seed, number)
        return order, np.full_like(order, number)


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin_worker(number: int) -> None:
    leave_to_parent(number)
    give_memory_back()


class _Told:
    """A dataset whose errors are its batches: in a worker they would become tracebacks of text."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def class_labels(self) -> np.ndarray:
        return self.dataset.class_labels

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch | Exception:
        try:
            return self.dataset.__getitems__(keys)
        except (ValueError, OSError) as error:
            return error


def batches(dataset: Dataset, order: Any, *, workers: int = 0) -> Iterator[Batch]:
    """The micro-batches of `order`; pinned memory where an accelerator is.

    ValueError or OSError as the dataset raises it, ChildProcessError if a worker was killed.
    """
    if getattr(dataset, "is_resident", False):
        yield from map(dataset.__getitems__, order)
        return
    loader = DataLoader(
        _Told(dataset),  # type: ignore[arg-type, var-annotated]
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.accelerator.is_available(),
        prefetch_factor=4 if workers else None,
        worker_init_fn=_begin_worker,
    )
    before = signal.getsignal(signal.SIGCHLD)
    found = iter(loader)
    with suppress(ValueError):  # not in the main thread
        # torch's handler raises wherever the work is, in the middle of a step; without it a dead
        # worker is found out here, five seconds later
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    while (batch := _next(found)) is not None:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def _next(found: Iterator[Any]) -> Any:
    """The next batch, none after the last; ChildProcessError if its worker was killed."""
    try:
        return next(found, None)
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(
            f"a data worker was killed ({str(error).splitlines()[0]}): if memory was short, "
            "lower data.workers; the same command goes on"
        ) from error


def in_order(
    indices: Sequence[int], batch_size: int, *, rank: int = 0, world: int = 1
) -> list[list[tuple[int, int]]]:
    """Every index once, in batches of (index, 0) keys; process r of n takes every n-th."""
    starts = range(rank * batch_size, len(indices), world * batch_size)
    return [[(index, 0) for index in indices[start : start + batch_size]] for start in starts]


def spread(num_items: int, num_wanted: int) -> list[int]:
    """At most num_wanted indices spread evenly over a data set, which may be sorted by class."""
    num_wanted = min(num_items, num_wanted)
    return [i * num_items // num_wanted for i in range(num_wanted)]


def chunks_of(count: int, size: int) -> list[range]:
    """0 .. count - 1 in ranges of `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
