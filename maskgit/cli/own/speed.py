"""How quick this machine is at the models that one might choose, in a few seconds each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from maskgit.machine import on_threads, seconds_of
from maskgit.model import make_backbone
from maskgit.processes import cpu_only, this_process
from vqgan.tokenizer import Tokenizer

BATCH = 32
"""Images of a training step."""
TIMED = 8
"""Images of a step that is timed on CPUs; its time is taken to be in proportion."""
CLEARLY = 1.15
"""How much quicker another number of threads has to be to be taken."""


def _best_of(work: Callable[[], object]) -> float:
    """Seconds, the least of two after one that does not count."""
    work()
    return min(seconds_of(work) for _ in range(2))


def _images() -> int:
    return TIMED if cpu_only() else BATCH


def tokenizer_step(size: int, channels: int, model: dict[str, Any]) -> float:
    """Seconds of a step of BATCH images, forward and backward."""
    device, count = this_process().device, _images()
    tokenizer = Tokenizer(image_size=size, channels=channels, **model).to(device)
    images = torch.zeros(count, channels, size, size, device=device).uniform_(-1, 1)

    def work() -> None:
        out = tokenizer(images)
        ((out.images - images).square().mean() + out.loss).backward()

    return _best_of(work) * BATCH / count


def generator_step(cells: int, num_codes: int, model: dict[str, Any]) -> float:
    """Seconds of a step of BATCH grids of side * side cells, forward and backward."""
    device, count = this_process().device, _images()
    shape = {"grid": (cells, cells), "num_classes": 2, "codes_per_cell": 1, "code_levels": ()}
    net: Any = make_backbone(model, codebook_size=num_codes, **shape).to(device)
    codes = torch.zeros(count, cells, cells, dtype=torch.int64, device=device)
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    return _best_of(lambda: net(codes, labels).float().square().mean().backward()) * BATCH / count


class Threads(NamedTuple):
    """What was measured of this process's threads."""

    number: int  # to be used
    says: str


def best_threads() -> Threads:
    """One thread against all: on a machine that others use, too, one is often quicker."""
    now = torch.get_num_threads()
    if not cpu_only():
        return Threads(now, "the accelerator computes")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else now
    model = {"widths": [32, 64], "num_blocks": 1, "patch_size": 2, "latent_dim": 8}
    model |= {"quantizer": {"name": "fsq", "levels": [8, 8, 8]}}
    took = {}
    for number in sorted({1, now, cores}):
        with on_threads(number):
            took[number] = tokenizer_step(32, 3, model)
    return chosen_threads(took, now)


def chosen_threads(took: dict[int, float], now: int) -> Threads:
    """took: threads -> seconds of the same work; the quickest, if it is clearly quicker."""
    best = min(took, key=lambda number: took[number])
    if took[now] < CLEARLY * took[best]:
        best = now
    others = [
        f"{number} would take {took[number] / took[best]:.1f} times as long"
        for number in took
        if number != best
    ]
    threads = f"{best} thread{'s' * (best > 1)}"
    busy = " (the machine is busy)" if best < max(took) else ""
    return Threads(best, f"{threads}{busy}; {', '.join(others)}" if others else threads)


def pick(candidates: Sequence[Any], seconds: Callable[[Any], float], longest: float) -> int:
    """The place of the last candidate, from the cheapest on, whose step takes at most so long."""
    place = 0
    for number, candidate in enumerate(candidates):
        if number and seconds(candidate) > longest:
            break
        place = number
    return place
