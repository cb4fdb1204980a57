"""Chunks: as many rows at once as memory allows, and half as many where it did not."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

Found = TypeVar("Found")
SHARE = 0.8
"""Of the free memory, what chunks are planned for."""


def free_memory(device: torch.device) -> float:
    """Bytes that tensors can still take on a device; infinite where it does not say, as on CPUs."""
    here = torch.accelerator.current_accelerator(check_available=True)
    kind: Any = None if here is None or here.type != device.type else torch.get_device_module(here)
    if not hasattr(kind, "mem_get_info"):
        return math.inf
    kept = kind.memory_reserved(device) - kind.memory_allocated(device)
    return float(kind.mem_get_info(device)[0] + kept)


def fitting(most: float, bytes_each: float, device: torch.device) -> int:
    """How many rows of so many bytes fit into what a device has left: 1 .. `most`."""
    return max(1, int(min(most, SHARE * free_memory(device) / bytes_each)))


def in_chunks(
    work: Callable[[slice], Found], total: int, size: int, what: str = "images"
) -> Iterator[Found]:
    """work(slice) of 0 .. total, `size` rows at once; half as many from where memory ran out.

    stderr says so. torch.OutOfMemoryError if a single row is too many.
    """
    start, size = 0, min(size, total)
    while start < total:
        found = _tried(work, slice(start, min(start + size, total)), is_last=size == 1)
        if not found:  # outside of `except`, whose traceback holds the tensors
            size = size // 2
            print(f"out of memory: {size} {what} at a time", file=sys.stderr, flush=True)
            continue
        start += size
        yield found[0]


def _tried(work: Callable[[slice], Found], part: slice, is_last: bool) -> list[Found]:
    """[work(part)], or nothing where it ran out of memory."""
    try:
        return [work(part)]
    except torch.OutOfMemoryError:
        if is_last:
            raise
        return []
