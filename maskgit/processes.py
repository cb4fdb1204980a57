"""This process among those of a launch, as accelerate sees it."""

from __future__ import annotations

import resource

import torch
from accelerate import PartialState


def cpu_only() -> bool:
    """Whether there is nothing but CPUs; accelerate forms a group of CPU processes only when told so."""
    return not torch.accelerator.is_available()


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
