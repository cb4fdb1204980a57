"""The machine under one process: its threads, its memory, and how long work takes on it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from maskgit.processes import cpu_only, this_process

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4  # glibc's malloc.h
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
"""Memory that is freed stays with the process, up to 2 GiB."""
LEAN = {M_MMAP_MAX: 2**16, M_MMAP_THRESHOLD: 2**22, M_TRIM_THRESHOLD: 2**23, M_TOP_PAD: 2**17}
"""8 MiB of it: near what glibc itself comes to where images are decoded."""
_kept = False


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where there are only CPUs.

    glibc gives large pieces back at once, and every new tensor then pays for its pages again: a
    tenth of the time of sampling on CPUs, a thirtieth in training. Nothing happens without glibc.
    """
    global _kept
    _kept = cpu_only() and _malloc_by(KEEPING) is not None


def give_memory_back() -> None:
    """In a fork of a process that keeps what it frees: a data worker would hold 750 MiB."""
    libc = _malloc_by(LEAN) if _kept else None
    if libc is not None:
        libc.malloc_trim(0)


def _malloc_by(options: Mapping[int, int]) -> ctypes.CDLL | None:
    """-> the C library, if it is glibc."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        return None
    for option, value in options.items():
        libc.mallopt(option, value)
    return libc


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
    """The work on every part, each on one thread of the CPU, as many at once as torch has.

    No bit depends on how many these are. The work sets its own `no_grad`, which is a thread's.
    """
    threads = min(torch.get_num_threads(), len(parts))
    with on_threads(1):
        if threads < 2:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))


def processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join((names or [platform.processor() or platform.machine()])[0].split())


def cache_folder() -> Path:
    """Where what was found out is kept: $MASKGIT_CACHE, or ~/.cache/maskgit."""
    return Path(os.environ.get("MASKGIT_CACHE") or Path.home() / ".cache" / "maskgit")


@cache
def warn_once(line: str) -> None:
    """A line on stderr, however often what it tells of happens in this process."""
    print(f"warning: {line}", file=sys.stderr)


def fair_threads() -> int:
    """Threads for what one of several processes computes: its share of the machine's cores.

    Launchers leave each process one. At least as many as torch has; alone, these.
    """
    threads, state = torch.get_num_threads(), this_process()
    if state.num_processes == 1:
        return threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))
    return max(threads, (cores or 1) // here)


def quicken() -> None:
    """In a training on CUDA: float32 products by TF32, and of the ways to compute a convolution the
    quickest for its size, once tried. CPUs, and bits on them, stay as they are."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def usual_batch() -> int:
    """Images drawn or read together where nobody says how many.

    More fill an accelerator, and do nothing for CPUs.
    """
    return 100 if cpu_only() else 500


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, which is not waited for: through pinned memory, but where it is
    shared.

    A tensor that is there already stays as it is.
    """
    here = tensor.device.type == "cpu" and device.type != "cpu"
    if not here or cpu_only() or torch.backends.mps.is_available():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def peak_memory() -> float:
    """The most memory this process has held, in MiB.

    The accelerator's where there is one, else the resident set.
    """
    if cpu_only():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return torch.accelerator.max_memory_allocated() / 2**20


def wait() -> None:
    """Until the accelerator, if any, has done what it was told."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    """One run."""
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start
