"""Samplers in an order fixed beforehand; the head runs on the cells of the round only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from maskgit.machine import upload
from maskgit.randomness import uniforms
from maskgit.samplers.engine import (
    Policy,
    Ramp,
    Round,
    Rounds,
    as_revealed,
    counted,
    device_of,
    fill,
    highest,
)
from maskgit.samplers.predictor import Predictor
from maskgit.schedules import ScheduleSpec
from vqgan.devices import widest_float
from vqgan.registry import Positive, Share


def _in_order(predictor: Predictor, codes: Tensor, place: Tensor) -> Policy:
    """Draw hidden cells in a fixed order, nothing else; place: (batch, cells), low = early."""
    device = device_of(predictor, codes)
    early = upload(-place.to(widest_float(device)), device)

    def next_cells(hidden: Tensor, now: Round) -> Tensor:
        left = hidden.flatten(1)
        waiting = early.masked_fill(~left, -torch.inf)
        return highest(waiting, left.sum(1) - now.num_hidden).view_as(hidden)

    return Policy(cells=next_cells, counts=as_revealed)


ORDER_ROUND = 2**32
"""The round number of the noise that orders are made of: none of the rounds that follow."""


def at_random(predictor: Predictor, codes: Tensor, seeds: Sequence[int]) -> Policy:
    """The policy of `random`."""
    return _in_order(predictor, codes, uniforms(seeds, ORDER_ROUND, (codes[0].numel(),)))


def random(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """Draw the cells in an order drawn at random for each image; with one cell a round, exact
    (arXiv:1310.1757).

    The head runs on this round's cells only, and with `refresh` > 1 so does the net (see `fill`).
    """
    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    policy = at_random(predictor, codes, seeds)
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)


def radical_inverse(n: int, base: int) -> tuple[int, int]:
    """The digits of n in a base, mirrored at the point: 6 = 110 in base 2 -> 0.011 = 3 / 8.

    As numerator and denominator: thirds have no floating-point number, and fall short of a cell.
    """
    value, scale = 0, 1
    while n:
        n, digit = divmod(n, base)
        value, scale = value * base + digit, scale * base
    return value, scale


@lru_cache(maxsize=16)
def halton_order(height: int, width: int) -> tuple[int, ...]:
    """Cell numbers y * width + x, by first visit of the Halton sequence of bases 2 and 3.

    Goes on until every cell is visited: a fixed number of points leaves some out on large grids. In
    a single row it is van der Corput's sequence of base 2, which halves every gap in turn.
    """
    order: dict[int, None] = {}
    down, across = (2, 3) if height > 1 else (3, 2)
    n = 1
    while len(order) < height * width:
        (up, rows), (left, columns) = radical_inverse(n, down), radical_inverse(n, across)
        y, x = up * height // rows, left * width // columns
        order.setdefault(y * width + x)
        n += 1
    return tuple(order)


def halton(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "arccos",
    temperature: Ramp = 1.0,
    shift: bool = True,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """The cells in Halton's order, which spreads those of a round over the grid (Besnier et al.,
    arXiv:2503.17076).

    shift: turned around the grid by an offset of each image's own. Known cells are skipped. The
    head runs on the cells of this round only, and with `refresh` > 1 so does the net (see `fill`).
    """
    if codes.ndim != 3:
        raise ValueError(
            "halton spreads cells over (height, width) grids; take `random` for sequences"
        )
    height, width = codes.shape[1:]
    order = torch.tensor(halton_order(height, width))
    y, x = (order // width).expand(len(codes), -1), (order % width).expand(len(codes), -1)
    if shift:
        u = uniforms(seeds, ORDER_ROUND, (2,))
        y = (y + (u[:, :1] * height).long()) % height
        x = (x + (u[:, 1:] * width).long()) % width
    place = torch.empty(len(codes), height * width, dtype=torch.int64)
    place.scatter_(1, y * width + x, torch.arange(height * width).expand(len(codes), -1))
    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    policy = _in_order(predictor, codes, place)
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)
