"""This process among those of a launch, as accelerate sees it, and among those of the machine."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object, pad_across_processes, reduce
from torch import Tensor
from torch.distributed import PrefixStore, Store

from vqgan.files import clean

Item = TypeVar("Item")
PATIENCE = timedelta(hours=2)
"""Of a process for the others, such as for metrics that the main one computes; NCCL's own would be
ten minutes. A training has another (maskgit.training.launch)."""
LOCK = ".lock"
"""In a folder that a command writes to: flock'ed while it runs, and left there."""

_locks: set[int] = set()


def _let_go() -> None:
    """A fork, such as a worker of a loader, may outlive the command: it holds nothing."""
    for descriptor in _locks:
        with suppress(OSError):
            os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_let_go)


def cpu_only() -> bool:
    """Whether there are only CPUs: accelerate must be told so to form a group of processes."""
    return not torch.accelerator.is_available()


SETTLING = 0.2
"""Seconds for the threads of a group that was left to let go of their last tensors.

On a busy machine a process that is done was seen to abort while Python ended ("terminate called
without an active exception", torch 2.9 and 2.14 with gloo), as one does whose threads then ask for
Python.
"""
_was_in_group = False


def leave_group() -> None:
    """End the process group, if this process is in one; called once, when a command is done."""
    global _was_in_group
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        _was_in_group = torch.distributed.get_world_size() > 1
        torch.distributed.destroy_process_group()
        if _was_in_group:
            time.sleep(SETTLING)


def end_at_once(status: int) -> None:
    """End a process that was one of several, without taking down what its threads may yet hold.

    Does nothing in one that was in no group: it ends as any other.
    """
    if _was_in_group:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def others_lost(error: BaseException) -> bool:
    """Whether an error says that another process of the group is gone, or does not answer."""
    if not torch.distributed.is_available():
        return False
    if isinstance(error, torch.distributed.DistError):
        return True
    # gloo has no class of errors of its own: its messages name its files, or itself
    return isinstance(error, RuntimeError) and bool(re.search(r"/gloo/|\bGloo", str(error)))


def this_process() -> PartialState:
    """Its index, its device, the number of processes, and `wait_for_everyone`."""
    return PartialState(cpu=cpu_only(), timeout=PATIENCE, init_method=MEETING)


def _meet(url: str, **options: Any) -> Iterator[tuple[Store, int, int]]:
    """As env:// does, but in a part of the store that is of this start alone.

    torchrun keeps one store for all its restarts: gloo takes the addresses of a process that was
    killed for those of the one that replaces it.
    """
    store, rank, world = next(torch.distributed.rendezvous("env://", **options))
    yield new_part(store, rank, world, options.get("timeout", PATIENCE)), rank, world


def new_part(store: Store, rank: int, world: int, timeout: timedelta) -> Store:
    """A part of the store in which these processes meet, and nobody has met before.

    The first one names it. Each of the others asks with a number that it has just drawn, so that no
    answer to an earlier process is one to it. TimeoutError if one does not come.
    """
    mine, end = secrets.token_hex(8), time.monotonic() + timeout.total_seconds()
    if rank:
        store.set(f"maskgit/asks/{rank}", mine)
        store.wait([f"maskgit/told/{mine}"], timeout)
        name = store.get(f"maskgit/told/{mine}").decode()
        store.set(f"maskgit/{name}/{rank}", "")
        return PrefixStore(f"maskgit/{name}", store)
    missing = set(range(1, world))
    while missing:
        for other in missing:
            if store.check([f"maskgit/asks/{other}"]):
                asked = store.get(f"maskgit/asks/{other}").decode()
                store.set(f"maskgit/told/{asked}", mine)
        missing = {other for other in missing if not store.check([f"maskgit/{mine}/{other}"])}
        if missing and time.monotonic() > end:
            raise TimeoutError(
                f"process {min(missing)} of {world} did not come: look at its output"
            )
        time.sleep(0.02 if missing else 0)
    return PrefixStore(f"maskgit/{mine}", store)


MEETING = "maskgit://"
"""The init_method by which processes find each other."""
torch.distributed.register_rendezvous_handler("maskgit", _meet)


def on_main(work: Callable[[], object]) -> None:
    """The main process does it, the others wait; if it cannot, ValueError or OSError on all."""
    state = this_process()
    error: ValueError | OSError | None = None
    if state.is_main_process:
        try:
            work()
        except (ValueError, OSError) as found:
            error = found
    failed = gather_rows(torch.tensor([[error is not None]], device=state.device))
    if error is not None:
        raise error
    if failed.any():
        raise ValueError("the main process cannot go on, and says why")


def first_on_node(work: Callable[[], Item]) -> Item:
    """What it returns on each process: the first of a machine does it, then the others of it do.

    So they find what the first one kept. All processes together.
    """
    state = this_process()
    try:
        found = work() if state.is_local_main_process else None
    finally:
        state.wait_for_everyone()
    return cast(Item, found) if state.is_local_main_process else work()


def told_by_nodes(work: Callable[[], Item]) -> dict[int, Item]:
    """What it returns on the first process of each machine, by their numbers; on all of them."""
    state = this_process()
    if state.num_processes == 1:
        return {0: work()}
    told = gather_object([[work()] if state.is_local_main_process else []])
    return {rank: found[0] for rank, found in enumerate(told) if found}


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


def summed(values: Tensor) -> Tensor:
    """The sum of the values of all processes, of one shape, on each of them."""
    state = this_process()
    if state.num_processes == 1:
        return values
    return reduce(values.to(state.device), "sum")  # type: ignore[no-any-return]


def share_out(items: Sequence[Item]) -> Iterator[tuple[int, Item | None]]:
    """(block, item) of this process: item r of each block of n; none where it is too short.

    All processes make the same number of turns, so that each can end in a `gather_rows`, which then
    gives the rows of the block's items in their order.
    """
    state = this_process()
    for block, start in enumerate(range(0, len(items), state.num_processes)):
        mine = start + state.process_index
        yield block, items[mine] if mine < len(items) else None


@contextmanager
def held(folder: str | Path, what: str) -> Iterator[None]:
    """Inside, this launch alone writes to `folder`; ValueError says who else does, and since when.

    what: the command, for that message. The main process holds the lock for all of its launch;
    the lock of a process that has died is free. What a kill left half written is removed; a folder
    that was made for work that then failed, too, if nothing else is in it.
    """
    this_process()  # the group is formed first: in it, others notice that the main one is refused
    if int(os.environ.get("RANK", "0")):
        yield
        return
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    _locks.add(descriptor)
    try:
        _lock(descriptor, folder)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        owner = f"{what} (pid {os.getpid()} on {socket.gethostname()}, since {since})"
        with suppress(OSError):  # a full disk is met where there is more to lose
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, owner.encode(), 0)
        clean(folder)
        yield
    except BaseException:
        if is_new and [path.name for path in folder.iterdir()] == [LOCK]:  # a mistake: no trace
            (folder / LOCK).unlink()
            folder.rmdir()
        raise
    finally:
        if descriptor in _locks:  # else this is a fork, whose parent still holds it
            _locks.discard(descriptor)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 1000, 0).decode(errors="replace")
        raise ValueError(
            f"{folder} is in use by {owner or 'another process'}: wait until it ends, or stop it"
        ) from error
    except OSError as error:  # some network disks have no locks
        print(
            f"warning: {folder} cannot be locked ({error}): nothing else may write to it",
            file=sys.stderr,
        )
