"""The one loop of all samplers, and what it draws with. A sampler is this loop with a Policy.

All arithmetic is in float32 at least: bf16 confidence has a handful of distinct values. Image i
depends on its own seed and the round only, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from maskgit.machine import upload
from maskgit.randomness import uniforms
from maskgit.samplers.predictor import Known, Predictor, logits_in_parts, places_of
from maskgit.schedules import Schedule, ScheduleSpec, get_schedule
from vqgan.devices import widest_float
from vqgan.registry import Positive, Share


class Drawn(NamedTuple):
    """Codes drawn for some cells: a row for each, or for a policy a grid, with 0 elsewhere."""

    codes: Tensor  # (cells,) or (batch, *grid), int64
    log_probs: Tensor  # the same, float32: of the code under what it was drawn from


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


def shaped(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
) -> Tensor:
    """Logits over the temperature, in float32, -inf for unlikely codes that are cut off.

    logits: (cells, codebook_size); a temperature of 0 is left to who draws.
    """
    logits = logits.float()
    if temperature != 1 and temperature > 0:
        logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    return logits


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
    logits = shaped(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    probs = logits.softmax(-1)
    if temperature == 0:
        codes = logits.argmax(-1)
    else:
        cdf = probs.to(widest_float(probs.device)).cumsum(-1)
        codes = torch.searchsorted(cdf, (u.to(cdf) * cdf[:, -1])[:, None], right=True)[:, 0]
        codes = codes.clamp_(max=logits.shape[-1] - 1)
    chosen = probs.gather(-1, codes[:, None])[:, 0]
    return Drawn(codes, chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log())


def entropy(logits: Tensor) -> Tensor:
    """Of each row's distribution, in nats: (cells, codebook_size) -> (cells,) float32."""
    log_probs = logits.float().log_softmax(-1)
    return -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1)


def gumbel(u: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform numbers: -log(-log u), u clamped away from 0 and 1."""
    return -torch.log(-torch.log(u.clamp(1e-20, 1 - torch.finfo(u.dtype).eps / 2)))


Counts = np.ndarray
"""(batch,) int64, on the host: no round asks a device how many cells it draws."""
Plan = Callable[[Counts], Iterator[tuple[float, Counts]]]
"""Hidden cells at the start -> of each round its progress r and how many stay hidden."""


def hidden_counts(codes: Tensor, mask_id: int) -> Counts:
    """How many cells of each grid are hidden: asked once, of the host if the codes lie there."""
    return (codes == mask_id).flatten(1).sum(1).cpu().numpy()


def share_at(schedule: Schedule, r: float) -> float:
    """What of a grid is hidden at progress r."""
    return schedule(torch.tensor(r, dtype=torch.float64)).item()


def num_hidden_after(
    schedule: Schedule, steps: int, num_hidden: Counts
) -> Iterator[tuple[float, Counts]]:
    """(r, how many cells stay hidden) for each round that does something (MaskGIT's decoder).

    num_hidden: (batch,) at the start. floor(N0 gamma(r)), but every round reveals at least one cell
    and all but the last leave one; steps beyond the number of hidden cells run nothing.
    """
    left = num_hidden
    for k in range(steps):
        r = (k + 1) / steps
        wanted = np.floor(num_hidden * share_at(schedule, r) + 1e-9).astype(np.int64)
        wanted = np.minimum(wanted.clip(min=1), left - 1).clip(min=0)
        left = np.zeros_like(left) if k == steps - 1 else wanted
        yield r, left
        if not left.any():
            return


def counted(schedule: ScheduleSpec, steps: int) -> Plan:
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


def as_hidden(before: Counts, after: Counts) -> Counts:
    """A policy that draws every hidden cell draws so many."""
    return before


def as_revealed(before: Counts, after: Counts) -> Counts:
    """A policy that hides nothing again draws so many."""
    return before - after


def as_asked(logits: Tensor, u: Tensor, now: Round, **drawing: Any) -> Drawn:
    """As `draw` does."""
    return draw(logits, u, **drawing)


class Policy(NamedTuple):
    """What makes a sampler: which hidden cells a round draws, and which known ones it hides again.

    cells(hidden, now) -> bool (batch, h, w), a part of `hidden`; hide(codes, cells, drawn, now) ->
    bool (batch, h, w), with the codes drawn at `cells` in their places. `hide` is not asked where
    nothing may stay hidden. counts(before, after): how many cells are drawn where so many are
    hidden before and after a round, on the host; none where that is left to chance, so that an
    accelerator answers for all cells rather than be asked. draw(logits, u, now, **drawing): the
    codes of some rows of logits, with what `hide` is to know of them in `log_probs`.
    """

    cells: Callable[[Tensor, Round], Tensor] = all_hidden
    hide: Callable[[Tensor, Tensor, Drawn, Round], Tensor] = none
    counts: Callable[[Counts, Counts], Counts] | None = None
    draw: Callable[..., Drawn] = as_asked


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
    rounds: Plan,
    temperature: Ramp = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """Fill the hidden cells of codes (batch, h, w), and yield the grid after each round.

    The codes may lie on the host, where they are counted; the predictor's device is asked nothing,
    unless the policy's counts are unknown and refresh > 1. The net is asked for the cells that the
    policy draws, and not at all where it draws none. refresh: in every n-th round the net runs on
    the whole grid, in the others only on the cells that are drawn or have changed
    (maskgit.model.passes); 1 is exact. Rounds that draw nothing count then, too, so that an image
    does not depend on what others of its batch draw.
    """
    predictor = _refreshed(predictor, refresh)
    if (top_k is not None and top_k < 1) or (top_p is not None and not 0 <= top_p <= 1):
        raise ValueError(f"top_k is at least 1 and top_p lies in [0, 1], not {top_k} and {top_p}")
    _check_ramp(temperature, "temperature")
    before = hidden_counts(codes, predictor.mask_id)
    codes = upload(codes, device_of(predictor, codes))
    if not before.any():
        return
    blank, changed = bool((before == codes[0].numel()).all()), np.zeros_like(before)
    for k, (r, after) in enumerate(rounds(before)):
        noise = uniforms(seeds, k, (2, codes[0].numel()))
        wide = noise.to(widest_float(codes.device))
        u_code, u_policy = upload(wide, codes.device).unbind(1)
        now = Round(r, upload(torch.from_numpy(after), codes.device), u_policy)
        cells = policy.cells(codes == predictor.mask_id, now)
        asked, counts = _asked(policy, cells, before, after)
        known = Known(int(counts.sum()), None, blank)
        if policy.counts is not None:
            known = known._replace(most=int((counts + changed).max()))
        drawn = Drawn(codes, torch.zeros(codes.shape, device=codes.device))
        if known.total or refresh > 1:
            drawing = {"temperature": ramp_at(temperature, r), "top_k": top_k, "top_p": top_p}
            drawing_some = partial(policy.draw, now=now, **drawing)
            drawn = _drawn_at(predictor, codes, asked, u_code, now.r, known, drawing_some)
            codes = torch.where(cells, drawn.codes, codes)
        if after.any():
            codes = codes.masked_fill(policy.hide(codes, cells, drawn, now), predictor.mask_id)
        before, changed, blank = after, before - after, False
        yield codes


def device_of(predictor: Predictor, codes: Tensor) -> torch.device:
    """Where a predictor computes; where the codes are, if it does not say."""
    return getattr(predictor, "device", None) or codes.device


def _refreshed(predictor: Predictor, refresh: int) -> Predictor:
    """The predictor, with a whole pass in every `refresh`-th round only."""
    if refresh < 1:
        raise ValueError(f"refresh is at least 1 (every round runs the whole grid), not {refresh}")
    if refresh == 1:
        return predictor
    make = getattr(predictor, "cached", None)
    if make is None:
        raise ValueError("this model is run whole in every round: refresh can only be 1")
    return make(refresh)  # type: ignore[no-any-return]


def _asked(policy: Policy, cells: Tensor, before: Counts, after: Counts) -> tuple[Tensor, Counts]:
    """Which cells the net is asked for, bool (batch, *grid), and how many of each image."""
    count = as_hidden if policy.cells is all_hidden else policy.counts
    if count is not None:
        return cells, count(before, after)
    if cells.device.type == "cpu":
        return cells, cells.flatten(1).sum(1).numpy()
    return torch.ones_like(cells), np.full(len(cells), cells[0].numel())


def _drawn_at(
    predictor: Predictor,
    codes: Tensor,
    asked: Tensor,
    u: Tensor,
    r: float,
    known: Known,
    draw: Callable[[Tensor, Tensor], Drawn],
) -> Drawn:
    """Codes for the asked cells, as grids; u: (batch, cells)."""
    noise = u.flatten().index_select(0, places_of(asked, known.total))
    found, start = [], 0
    for logits in logits_in_parts(predictor, codes, asked, r, known):
        found.append(draw(logits, noise[start : start + len(logits)]))
        start += len(logits)
    rows = found[0] if len(found) == 1 else Drawn(*map(torch.cat, zip(*found, strict=True)))
    grids = torch.zeros_like(codes), torch.zeros(codes.shape, device=codes.device)
    return Drawn(*(grid.masked_scatter(asked, row) for grid, row in zip(grids, rows, strict=True)))


Sampler = Callable[..., Iterator[Tensor]]
