"""The one loop of all samplers, and what it draws with. A sampler is this loop with a Policy.

All arithmetic is in float32 at least: bf16 confidence has a handful of distinct values. Image i
depends on its own seed and the round only, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from maskgit.randomness import uniforms
from maskgit.samplers.predictor import Predictor
from maskgit.schedules import Schedule, ScheduleSpec, get_schedule
from vqgan.registry import Positive, Share


class Drawn(NamedTuple):
    """Codes drawn for some cells."""

    codes: Tensor  # (cells,) int64
    log_probs: Tensor  # (cells,) float32, of the code under what it was drawn from


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """-inf for all but the k largest of the last axis."""
    k = min(k, logits.shape[-1])
    return logits.masked_fill(logits < logits.topk(k, dim=-1).values[..., -1:], -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """-inf for all but the smallest set of codes that holds probability p (nucleus sampling,
    arXiv:1904.09751)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probs = ordered.softmax(-1)
    before = probs.cumsum(-1) - probs
    before[..., 0] = -1.0  # the likeliest is always kept
    return logits.masked_fill((before >= p).scatter(-1, order, before >= p), -torch.inf)


def draw(
    logits: Tensor,
    u: Tensor,
    *,
    temperature: float = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
) -> Drawn:
    """One code a row, by inverting the cumulative distribution at u: one softmax.

    logits: (cells, codebook_size); u: (cells,) float64 in [0, 1). temperature 0: the likeliest.
    """
    logits = logits.float()
    if temperature != 1 and temperature > 0:
        logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    probs = logits.softmax(-1)
    if temperature == 0:
        codes = logits.argmax(-1)
    else:
        cdf = probs.double().cumsum(-1)
        codes = torch.searchsorted(cdf, (u.to(cdf) * cdf[:, -1])[:, None], right=True)[:, 0]
        codes = codes.clamp_(max=logits.shape[-1] - 1)
    chosen = probs.gather(-1, codes[:, None])[:, 0]
    return Drawn(codes, chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log())


def gumbel(u: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform numbers: -log(-log u), u clamped away from 0 and 1."""
    return -torch.log(-torch.log(u.clamp(1e-20, 1 - 1e-16)))


def num_hidden_after(
    schedule: Schedule, steps: int, num_hidden: Tensor
) -> Iterator[tuple[float, Tensor]]:
    """(r, how many cells stay hidden) for each round that does something (MaskGIT's decoder).

    num_hidden: (batch,) at the start. floor(N0 gamma(r)), but every round reveals at least one cell
    and all but the last leave one; steps beyond the number of hidden cells run nothing.
    """
    left = num_hidden
    for k in range(steps):
        r = (k + 1) / steps
        wanted = (
            (num_hidden.double() * schedule(torch.tensor(r, dtype=torch.float64)).item() + 1e-9)
            .floor()
            .long()
        )
        wanted = torch.minimum(wanted.clamp(min=1), left - 1).clamp(min=0)
        left = torch.zeros_like(left) if k == steps - 1 else wanted
        yield r, left
        if not left.any():
            return


def counted(
    schedule: ScheduleSpec, steps: int
) -> Callable[[Tensor], Iterator[tuple[float, Tensor]]]:
    """The rounds of a sampler whose numbers of cells follow the schedule."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return partial(num_hidden_after, get_schedule(schedule), steps)


class Round(NamedTuple):
    """Where a sampler is."""

    r: float  # progress after this round, in (0, 1]
    num_hidden: Tensor  # (batch,) cells that the schedule leaves hidden after it
    u: Tensor  # (batch, cells) float64 in [0, 1), noise of this round for the policy


def all_hidden(hidden: Tensor, now: Round) -> Tensor:
    """Every hidden cell."""
    return hidden


def none(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
    """No cell."""
    return torch.zeros_like(cells)


class Policy(NamedTuple):
    """What makes a sampler: which hidden cells a round draws, and which known ones it hides again.

    cells(hidden, now) -> bool (batch, h, w), a part of `hidden`; hide(codes, cells, drawn, now) ->
    bool (batch, h, w), with the codes drawn at `cells` in their places. `hide` is not asked where
    nothing may stay hidden.
    """

    cells: Callable[[Tensor, Round], Tensor] = all_hidden
    hide: Callable[[Tensor, Tensor, Drawn, Round], Tensor] = none


Rounds = Annotated[int, Gt(0), Le(2**16)]
Level = Annotated[float, Ge(0)]
Ramp = Level | tuple[Level, Level]
"""A number, or its values at r = 0 and at r = 1, with a straight line between."""


def ramp_at(value: Ramp, r: float) -> float:
    """The value at progress r."""
    first, last = (value, value) if isinstance(value, int | float) else value
    return first + (last - first) * r


def falling(value: Ramp, name: str) -> Ramp:
    """A ramp of noise; a single number falls to 0. ValueError, with its name, if it cannot be."""
    ramp = (value, 0.0) if isinstance(value, int | float) else value
    _check_ramp(ramp, name)
    return ramp


def _check_ramp(value: Ramp, name: str) -> None:
    if not all(0 <= ramp_at(value, end) < math.inf for end in (0.0, 1.0)):
        raise ValueError(f"{name} is a number of 0 or more, or two, not {value}")


def highest(scores: Tensor, count: Tensor) -> Tensor:
    """Bool (batch, cells), True at the count[i] (batch,) highest scores (batch, cells) of row i."""
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < count[:, None]


def fill(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    policy: Policy,
    *,
    rounds: Callable[[Tensor], Iterator[tuple[float, Tensor]]],
    temperature: Ramp = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """Fill the hidden cells of codes (batch, h, w), and yield the grid after each round.

    rounds: (batch,) hidden cells at the start -> (r, how many stay hidden) of each round. The net
    is asked for the cells that the policy draws, and not at all where it draws none. refresh: in
    every n-th round the net runs on the whole grid, in the others only on the cells that are drawn
    or have changed (maskgit.model.passes); 1 is exact. Rounds that draw nothing count then, too, so
    that an image does not depend on what others of its batch draw.
    """
    if refresh < 1:
        raise ValueError(f"refresh is at least 1 (every round runs the whole grid), not {refresh}")
    if refresh > 1:
        make = getattr(predictor, "cached", None)
        if make is None:
            raise ValueError("this model is run whole in every round: refresh can only be 1")
        predictor = make(refresh)
    if (top_k is not None and top_k < 1) or (top_p is not None and not 0 <= top_p <= 1):
        raise ValueError(f"top_k is at least 1 and top_p lies in [0, 1], not {top_k} and {top_p}")
    _check_ramp(temperature, "temperature")
    codes = codes.clone()
    at_start = (codes == predictor.mask_id).flatten(1).sum(1)
    if not at_start.any():
        return
    for k, (r, num_hidden) in enumerate(rounds(at_start)):
        u_code, u_policy = uniforms(seeds, k, (2, codes[0].numel())).to(codes.device).unbind(1)
        now = Round(r, num_hidden, u_policy)
        cells = policy.cells(codes == predictor.mask_id, now)
        if cells.any() or refresh > 1:
            logits = predictor.logits(codes, cells, r)
            u = u_code[cells.flatten(1)]
            drawn = draw(logits, u, temperature=ramp_at(temperature, r), top_k=top_k, top_p=top_p)
            codes[cells] = drawn.codes
        else:
            drawn = Drawn(codes.new_empty(0), u_code.new_empty(0).float())
        if num_hidden.any():
            codes[policy.hide(codes, cells, drawn, now)] = predictor.mask_id
        yield codes.clone()


Sampler = Callable[..., Iterator[Tensor]]
