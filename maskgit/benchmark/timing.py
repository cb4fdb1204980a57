"""Clocks: alternating runs, medians and ratios, floating-point operations, peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from maskgit.machine import seconds_of, wait

Work = Callable[[], object]


class Spread(NamedTuple):
    """The median and the extremes of some measurements."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def spread_of(values: list[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(median(values), min(values), max(values))


def alternate(
    works: Mapping[str, Work], *, seconds: float, least: int = 3, most: int = 15
) -> dict[str, list[float]]:
    """Run all in turn, again and again, for about `seconds`: name -> the seconds of each turn.

    What else the machine does then hits all alike. The first turn warms up and is not counted.
    """
    for work in works.values():
        seconds_of(work)
    found: dict[str, list[float]] = {name: [] for name in works}
    end = time.perf_counter() + seconds
    turn = 0
    while turn < least or (turn < most and time.perf_counter() < end):
        for name, work in works.items():
            found[name].append(seconds_of(work))
        turn += 1
    return found


def ratios(found: Mapping[str, list[float]], of: str) -> dict[str, Spread]:
    """Each one's time over the time of `of` in the same turn."""
    return {
        name: spread_of([a / b for a, b in zip(times, found[of], strict=True)])
        for name, times in found.items()
    }


def operations(work: Work) -> int:
    """Floating-point operations of products, convolutions and attention in a run, by torch.

    Attention runs unfused: the counter knows no fused one of the CPU.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_bytes(work: Work) -> int:
    """The most memory that one run holds beyond what was held before it.

    On an accelerator by torch's allocator, on the CPU by the profiler's record of allocations.
    """
    if torch.accelerator.is_available():
        wait()
        before = torch.accelerator.memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        work()
        wait()
        return torch.accelerator.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    held = peak = 0
    assert record.profiler is not None and record.profiler.kineto_results is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
