"""This process among those of a launch, as accelerate sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes
from torch import Tensor

Item = TypeVar("Item")


def cpu_only() -> bool:
    """Whether there are only CPUs: accelerate must be told so to form a group of processes."""
    return not torch.accelerator.is_available()


def leave_group() -> None:
    """End the process group, if this process is in one; called once, when a command is done."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def this_process() -> PartialState:
    """Its index, its device, the number of processes, and `wait_for_everyone`."""
    return PartialState(cpu=cpu_only())


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (n_r, width) of all processes, in the order of the processes, on each of them.

    n_r may differ, and a process that has none need not know their width.
    """
    state = this_process()
    if state.num_processes == 1:
        return rows
    shapes = gather(torch.tensor([rows.shape], device=state.device)).tolist()
    rows = (
        rows.to(state.device)
        if len(rows)
        else rows.new_empty(0, max(width for _, width in shapes)).to(state.device)
    )
    padded = gather(pad_across_processes(rows, dim=0)).unflatten(0, (state.num_processes, -1))
    return torch.cat([part[:count] for part, (count, _) in zip(padded, shapes, strict=True)])


def share_out(items: Sequence[Item]) -> Iterator[tuple[int, Item | None]]:
    """(block, item) of this process: item r of each block of n; none where it is too short.

    All processes make the same number of turns, so that each can end in a `gather_rows`, which then
    gives the rows of the block's items in their order.
    """
    state = this_process()
    for block, start in enumerate(range(0, len(items), state.num_processes)):
        mine = start + state.process_index
        yield block, items[mine] if mine < len(items) else None
