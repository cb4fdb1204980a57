"""This process among those of a launch, as accelerate sees it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes
from torch import Tensor

Item = TypeVar("Item")


def cpu_only() -> bool:
    """Whether there is nothing but CPUs; accelerate forms a group of CPU processes only when told so."""
    return not torch.accelerator.is_available()


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """What runs inside is computed on so many threads of the CPU, whatever their number is else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def one_thread_each(work: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """The work on every part, each on one thread of the CPU, as many at once as torch has: no bit depends on how many.

    The work sets its own `no_grad`, which is a thread's.
    """
    threads = min(torch.get_num_threads(), len(parts))
    with on_threads(1):
        if threads < 2:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))


def usual_batch() -> int:
    """Images drawn or read together where nobody says how many: more fill an accelerator, and do nothing for CPUs."""
    return 100 if cpu_only() else 500


def peak_memory() -> float:
    """The most memory this process has held, in MiB: the accelerator's where there is one, else the resident set."""
    if cpu_only():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return torch.accelerator.max_memory_allocated() / 2**20


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
    rows = rows.to(state.device) if len(rows) else rows.new_empty(0, max(width for _, width in shapes)).to(state.device)
    padded = gather(pad_across_processes(rows, dim=0)).unflatten(0, (state.num_processes, -1))
    return torch.cat([part[:count] for part, (count, _) in zip(padded, shapes, strict=True)])


def share_out(items: Sequence[Item]) -> Iterator[tuple[int, Item | None]]:
    """(block, item) of this process: item r of each block of n, none where the last block has too few.

    All processes make the same number of turns, so that each can end in a `gather_rows`, which then gives the rows of
    the block's items in their order.
    """
    state = this_process()
    for block, start in enumerate(range(0, len(items), state.num_processes)):
        mine = start + state.process_index
        yield block, items[mine] if mine < len(items) else None
