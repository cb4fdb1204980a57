"""Samplers with a coin for every cell: MDLM's ancestral one; ReMDM's, which hides again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from maskgit.machine import upload
from maskgit.samplers.engine import (
    Counts,
    Drawn,
    Policy,
    Ramp,
    Round,
    Rounds,
    device_of,
    fill,
    share_at,
)
from maskgit.samplers.predictor import Predictor
from maskgit.schedules import Schedule, ScheduleSpec, get_schedule
from vqgan.devices import widest_float
from vqgan.registry import Inside, Positive, Rising, Share, choose


def cap(most: float, eta: float) -> float:
    """ReMDM-cap: sigma = min(eta, sigma_max)."""
    return min(eta, most)


def rescale(most: float, eta: float) -> float:
    """ReMDM-rescale: sigma = eta sigma_max."""
    return eta * most


REMASKING: dict[str, Callable[[float, float], float] | None] = {
    "cap": cap,
    "rescale": rescale,
    "conf": None,
}
"""(sigma_max, eta) -> sigma of all known cells; with `conf`, a cell's own confidence decides."""


def remask(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 32,
    schedule: ScheduleSpec = "cosine",
    kind: Literal["cap", "rescale", "conf"] = "rescale",
    eta: Share = 0.05,
    refine: Annotated[tuple[Inside, Inside] | None, Rising()] = None,
    level: Inside = 0.9,
    temperature: Ramp = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """ReMDM (Wang et al., arXiv:2503.00307): hidden cells are drawn, and known ones hidden again,
    each by a coin.

    With a the known share before a round and a' after it, a known cell is hidden with probability
    sigma <= sigma_max = min(1, (1 - a') / a), and a hidden one drawn with (a' - (1 - sigma) a) / (1
    - a). kind: `cap` or `rescale`, with eta; or `conf`, without it: sigma_max is shared among the
    known cells by a softmax of minus the probability that each was drawn with, which no longer
    keeps a perfect model's distribution. refine: (start, end) of the part of the rounds, in r, in
    which the known share stays at `level` while cells are hidden and drawn; before and after it no
    known cell is touched (ReMDM-loop, whose authors take `cap`, eta 0.02, refine (0.45, 0.95) and
    level 0.9). Cells known at the start are never touched. With `refresh` > 1 the net runs on those
    drawn or hidden again (see `fill`).
    """
    _check(steps, eta, refine, level)
    known_share = partial(_known_share, get_schedule(schedule), refine, level)
    sigma_of = choose(REMASKING, kind, "remasking")
    device = device_of(predictor, codes)
    given = upload(codes != predictor.mask_id, device)
    probs = torch.ones(codes.shape, device=device)  # of the cells drawn so far
    wide = widest_float(device)
    sigma = torch.zeros(codes.shape, dtype=wide, device=device)  # of this round

    def draw_some(hidden: Tensor, now: Round) -> Tensor:
        if now.r == 1:  # the last round, whatever the schedule leaves there
            return hidden
        known = ~hidden & ~given
        before, after = known_share(now.r - 1 / steps), known_share(now.r)
        remasks = _within(refine, now.r - 1 / steps, now.r)
        most = min(1.0, (1 - after) / max(before, 1e-12)) if remasks else 0.0
        if sigma_of is None:
            weights = (-probs).masked_fill(~known, -torch.inf).flatten(1).to(wide).softmax(1)
            sigma.copy_(most * weights.nan_to_num(0.0).view_as(known))
            mean = sigma.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
        else:
            mean = sigma.new_full((len(codes),), sigma_of(most, eta))
            sigma.copy_(known * mean.view(-1, *[1] * (codes.ndim - 1)))
        chance = (after - (1 - mean) * before) / max(1 - before, 1e-12)
        return hidden & (now.u < chance[:, None]).view_as(hidden)

    def hide_some(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        probs.copy_(torch.where(cells, drawn.log_probs.exp(), probs))
        return now.u.view_as(cells) < sigma

    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    policy, rounds = Policy(draw_some, hide_some), partial(_by_chance, steps)
    yield from fill(predictor, codes, seeds, policy, rounds=rounds, refresh=refresh, **drawing)


def _within(part: tuple[float, float] | None, start: float, end: float) -> bool:
    """Whether a round from start to end lies in that part of them; all do, if there is none."""
    return part is None or (start >= part[0] - 1e-9 and end <= part[1] + 1e-9)


def _check(steps: int, eta: float, refine: tuple[float, float] | None, level: float) -> None:
    """ValueError for numbers that cannot be."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta lies in [0, 1], not {eta}")
    if refine is not None and not (0 < refine[0] < refine[1] < 1 and 0 < level < 1):
        raise ValueError(
            "refine is a part (start, end) of (0, 1), and level lies in (0, 1), "
            f"not {refine} and {level}"
        )


def _by_chance(steps: int, at_start: Counts) -> Iterator[tuple[float, Counts]]:
    """The rounds of coins: how many stay hidden is known of the last one only, none."""
    for k in range(steps):
        yield (k + 1) / steps, at_start if k < steps - 1 else np.zeros_like(at_start)


def _known_share(
    gamma: Schedule, refine: tuple[float, float] | None, level: float, r: float
) -> float:
    """1 - gamma(r); or, with a part that refines, up to `level` before it, `level` in it, from
    there to 1 after it."""

    def rising(part: float) -> float:
        part = 1.0 if part > 1 - 1e-9 else max(part, 0.0)
        return 1 - share_at(gamma, part)

    if refine is None:
        return rising(r)
    start, end = refine
    if r <= start:
        return level * rising(r / start)
    return level if r <= end else level + (1 - level) * rising((r - end) / (1 - end))


def ancestral(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 32,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """MDLM's ancestral sampler (arXiv:2406.07524): every hidden cell is drawn by a coin of its own,
    none hidden again.

    It is `remask` with sigma = 0. How many cells a round draws is left to chance; with `refresh` 1,
    rounds that draw none run no network.
    """
    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    yield from remask(predictor, codes, seeds, steps=steps, schedule=schedule, eta=0.0, **drawing)
