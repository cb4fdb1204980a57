"""Which number format is quick here: bf16 on accelerators, and on CPUs with units for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from maskgit.machine import seconds_of
from maskgit.processes import cpu_only, gather_rows, this_process
from vqgan.registry import choose

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
WORTH = 1.3
"""How much quicker bf16's matrix products must be, since its conversions cost time too (measured on
two CPUs: 4.3 times quicker products made training 1.7 times quicker, 0.7 times quicker ones made it
0.8 times as quick)."""
SLOW = 0.05
"""Seconds of a matrix product on a CPU, after which no larger one is timed."""


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """The best of several square matrix products, larger on accelerators, in operations a second.

    A CPU without units for a format can take 400 times as long, so that sizes double up to `size`,
    and only while a product takes less than SLOW seconds.
    """
    size = size or (2048 if device.type == "cpu" else 8192)
    width = min(128, size)
    seconds = seconds_of_product(device, dtype, width, 3)
    while width < size and seconds < SLOW:
        width = min(2 * width, size)
        seconds = seconds_of_product(device, dtype, width, 10 if width == size else 3)
    return 2 * width**3 / seconds


def seconds_of_product(device: torch.device, dtype: torch.dtype, width: int, times: int) -> float:
    """The least of some runs."""
    a, b = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return min(seconds_of(lambda: a @ b) for _ in range(times))


def best_precision() -> str:
    """The quicker entry of PRECISIONS here, by measuring CPUs: a tenth of a second, or one where
    bf16 is slow.

    The main process decides for all. An accelerator is taken to be quicker in bf16.
    """
    if not cpu_only():
        return "bf16"
    device = torch.device("cpu")
    with torch.random.fork_rng(devices=[]):  # a measurement changes no draw
        peaks = {name: matmul_peak(device, dtype, 768) for name, dtype in PRECISIONS.items()}
    faster = gather_rows(
        torch.tensor([[peaks["bf16"] / peaks["fp32"]]], device=this_process().device)
    )[0].item()
    return "bf16" if faster > WORTH else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    """`fp32`, `bf16`, or `auto` for the quicker one; ValueError if it is none of them."""
    if precision == "auto":
        return PRECISIONS[best_precision()]
    return choose(PRECISIONS, precision, "precision")


def uncached_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast as it is around, without its cache of converted weights."""
    kind = device.type
    if not (has_autocast(kind) and torch.is_autocast_enabled(kind)):
        return nullcontext()
    return torch.autocast(kind, torch.get_autocast_dtype(kind), cache_enabled=False)


def has_autocast(kind: str) -> bool:
    """Whether a kind of device knows autocast; a constant of a graph, since torch 2.9 cannot trace
    the question.
    """
    return torch.amp.is_autocast_available(kind)


# torch.compiler.assume_constant_result does just this, but imports the compiler: a second or more
vars(has_autocast)["_dynamo_marked_constant"] = True
