"""The samplers. Each says which cells a round draws and which it hides again; maskgit.samplers.engine does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor

from maskgit.randomness import uniforms
from maskgit.samplers.engine import (
    Drawn,
    Policy,
    Predictor,
    Ramp,
    Round,
    fill,
    gumbel,
    highest,
    num_hidden_after,
    ramp_at,
)
from maskgit.schedules import Schedule, get_schedule
from vqgan.registry import choose

ScheduleSpec = str | Mapping[str, Any] | Schedule


def _counted(schedule: ScheduleSpec, steps: int) -> Callable[[Tensor], Iterator[tuple[float, Tensor]]]:
    """The rounds of a sampler whose numbers of cells follow the schedule."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return partial(num_hidden_after, get_schedule(schedule), steps)


def confidence(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    choice_temperature: Ramp = (4.5, 0.0),
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """MaskGIT's sampler (arXiv:2202.04200): draw every hidden cell, hide the least confident ones again.

    codes: (batch, h, w) with hidden cells equal to the mask id; seeds: one for each image. Yields codes (batch, h, w)
    after each round; the last has no hidden cell. Cells known at the start are never touched. Confidence is
    log p(drawn) + choice temperature times Gumbel noise; a single choice temperature falls to 0, as MaskGIT's.
    """
    choice = (choice_temperature, 0.0) if isinstance(choice_temperature, int | float) else choice_temperature

    def least_confident(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        there = cells.flatten(1)
        scores = torch.full(there.shape, -torch.inf, device=codes.device)
        scores[there] = -(drawn.log_probs + ramp_at(choice, now.r) * gumbel(now.u[there]).float())
        return highest(scores, now.num_hidden).view_as(codes)

    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    rounds = _counted(schedule, steps)
    yield from fill(predictor, codes, seeds, Policy(hide=least_confident), rounds=rounds, **drawing)


class Critical(Predictor, Protocol):
    """A Predictor that also says which cells of a full grid look drawn."""

    def scores(self, codes: Tensor, r: float) -> Tensor:
        """codes: (batch, h, w) int64, none hidden -> logits (batch, h, w), high = drawn."""
        ...


def critic(
    predictor: Critical,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    noise_scale: Ramp = (1.0, 0.0),
    keep_known: bool = False,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """Token-Critic's sampler (arXiv:2209.04439): draw every hidden cell, hide again those that look drawn the most.

    As `confidence`, but cells accepted in an earlier round may be hidden again unless `keep_known`: that is what a
    critic is for. Cells known at the start never are. The score is the critic's logit + noise scale times uniform noise
    in [-1/2, 1/2), as in Muse's code; a single noise scale falls to 0. The critic does not run after the last round.
    """
    given = codes != predictor.mask_id
    scale = (noise_scale, 0.0) if isinstance(noise_scale, int | float) else noise_scale

    def most_suspect(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        noise = ramp_at(scale, now.r) * (now.u - 0.5).float()
        scores = predictor.scores(codes, now.r).float().flatten(1) + noise
        scores = scores.masked_fill((~cells if keep_known else given).flatten(1), -torch.inf)
        return highest(scores, now.num_hidden).view_as(codes)

    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    rounds = _counted(schedule, steps)
    yield from fill(predictor, codes, seeds, Policy(hide=most_suspect), rounds=rounds, **drawing)


def _in_order(place: Tensor) -> Policy:
    """Draw the hidden cells in a fixed order, and nothing else; place: (batch, cells), low = early."""

    def next_cells(hidden: Tensor, now: Round) -> Tensor:
        left = hidden.flatten(1)
        waiting = place.to(left.device).double().masked_fill(~left, torch.inf)
        return highest(-waiting, left.sum(1) - now.num_hidden).view_as(hidden)

    return Policy(cells=next_cells)


ORDER_ROUND = 2**32
"""The round number of the noise that orders are made of: none of the rounds that follow."""


def random(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """Draw the cells in an order drawn at random for each image; with one cell a round, exact (arXiv:1310.1757).

    The head runs on the cells of this round only.
    """
    place = uniforms(seeds, ORDER_ROUND, (codes[0].numel(),))
    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from fill(predictor, codes, seeds, _in_order(place), rounds=_counted(schedule, steps), **drawing)


def radical_inverse(n: int, base: int) -> float:
    """The digits of n in a base, mirrored at the point: 6 = 110 in base 2 -> 0.011 = 3/8."""
    value, scale = 0.0, 1.0 / base
    while n:
        n, digit = divmod(n, base)
        value, scale = value + digit * scale, scale / base
    return value


@lru_cache(maxsize=16)
def halton_order(height: int, width: int) -> tuple[int, ...]:
    """Cell numbers y * width + x in the order of their first visit by the Halton sequence of bases 2 and 3.

    Goes on until every cell is visited: a fixed number of points leaves out some cells of large grids.
    """
    order: dict[int, None] = {}
    n = 1
    while len(order) < height * width:
        y, x = int(radical_inverse(n, 2) * height), int(radical_inverse(n, 3) * width)
        order.setdefault(y * width + x)
        n += 1
    return tuple(order)


def halton(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 12,
    schedule: ScheduleSpec = "arccos",
    temperature: Ramp = 1.0,
    shift: bool = True,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """The cells in Halton's order, which spreads those of a round over the grid (Besnier et al., arXiv:2503.17076).

    shift: turned around the grid by an offset of each image's own. Known cells are skipped. The head runs on the cells
    of this round only.
    """
    height, width = codes.shape[1:]
    order = torch.tensor(halton_order(height, width))
    y, x = (order // width).expand(len(codes), -1), (order % width).expand(len(codes), -1)
    if shift:
        u = uniforms(seeds, ORDER_ROUND, (2,))
        y = (y + (u[:, :1] * height).long()) % height
        x = (x + (u[:, 1:] * width).long()) % width
    place = torch.empty(len(codes), height * width, dtype=torch.int64)
    place.scatter_(1, y * width + x, torch.arange(height * width).expand(len(codes), -1))
    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from fill(predictor, codes, seeds, _in_order(place), rounds=_counted(schedule, steps), **drawing)


def cap(most: float, eta: float) -> float:
    """ReMDM-cap: sigma = min(eta, sigma_max)."""
    return min(eta, most)


def rescale(most: float, eta: float) -> float:
    """ReMDM-rescale: sigma = eta sigma_max."""
    return eta * most


REMASKING: dict[str, Callable[[float, float], float]] = {"cap": cap, "rescale": rescale}


def remask(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 32,
    schedule: ScheduleSpec = "cosine",
    kind: str = "rescale",
    eta: float = 0.05,
    by_confidence: bool = False,
    refine: tuple[float, float] | None = None,
    level: float = 0.9,
    temperature: Ramp = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """ReMDM (Wang et al., arXiv:2503.00307): hidden cells are drawn, and known ones hidden again, each by a coin.

    With a the known share before a round and a' after it, a known cell is hidden with probability sigma <= sigma_max =
    min(1, (1 - a') / a), and a hidden one drawn with (a' - (1 - sigma) a) / (1 - a). kind: cap or rescale, with eta.
    by_confidence (ReMDM-conf): sigma_max is shared among the known cells by a softmax of minus the log-probability that
    each was drawn with, and eta is not used. refine: (start, end) of the part of the rounds, in r, in which the known
    share stays at `level` while cells are hidden and drawn (ReMDM-loop). Cells known at the start are never touched.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    known_share = partial(_known_share, get_schedule(schedule), refine, level)
    sigma_of = choose(REMASKING, kind, "remasking")
    given = codes != predictor.mask_id
    log_probs = torch.zeros(codes.shape, device=codes.device)  # of the cells drawn so far
    sigma = torch.zeros(codes.shape, dtype=torch.float64, device=codes.device)  # of this round

    def draw_some(hidden: Tensor, now: Round) -> Tensor:
        known = ~hidden & ~given
        before, after = known_share(now.r - 1 / steps), known_share(now.r)
        most = min(1.0, (1 - after) / max(before, 1e-12))
        if by_confidence:
            weights = (-log_probs).masked_fill(~known, -torch.inf).flatten(1).double().softmax(1)
            sigma.copy_(most * weights.nan_to_num(0.0).view_as(known))
        else:
            sigma.copy_(known * sigma_of(most, eta))
        mean = sigma.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
        chance = (after - (1 - mean) * before) / max(1 - before, 1e-12)
        return hidden & (now.u.view_as(hidden) < chance[:, None, None])

    def hide_some(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        log_probs[cells] = drawn.log_probs
        return now.u.view_as(cells) < sigma

    def rounds(at_start: Tensor) -> Iterator[tuple[float, Tensor]]:
        for k in range(steps):
            yield (k + 1) / steps, at_start if k < steps - 1 else torch.zeros_like(at_start)

    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from fill(predictor, codes, seeds, Policy(draw_some, hide_some), rounds=rounds, **drawing)


def _known_share(gamma: Schedule, refine: tuple[float, float] | None, level: float, r: float) -> float:
    """1 - gamma(r); or, with a part that refines, up to `level` before it, `level` in it, from there to 1 after it."""

    def rising(part: float) -> float:
        part = 1.0 if part > 1 - 1e-9 else max(part, 0.0)
        return 1 - gamma(torch.tensor(part, dtype=torch.float64)).item()

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
    steps: int = 32,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """MDLM's ancestral sampler (arXiv:2406.07524): every hidden cell is drawn by a coin of its own, none hidden again.

    It is `remask` with sigma = 0. How many cells a round draws is left to chance; rounds that draw none run no network.
    """
    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from remask(predictor, codes, seeds, steps=steps, schedule=schedule, eta=0.0, **drawing)
