"""A sampler that draws as many cells at once as their entropy allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maskgit.samplers.engine import (
    Drawn,
    Level,
    Policy,
    Ramp,
    Round,
    Rounds,
    as_asked,
    counted,
    entropy,
    fill,
    shaped,
)
from maskgit.samplers.predictor import Predictor
from maskgit.schedules import ScheduleSpec
from vqgan.registry import Positive, Share


def bounded(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 24,
    schedule: ScheduleSpec = "cosine",
    bound: Level = 6.0,
    temperature: Ramp = 1.0,
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """Entropy-bounded unmasking (Ben-Hamu et al., arXiv:2505.24857): the surest cells first, as
    many in a round as keep the sum of their entropies but the largest within `bound` nats.

    That sum bounds what is lost by drawing them apart from each other; with a bound of 0 and a
    round for each cell, one is drawn a round, and the distribution is a perfect model's own. No
    fewer are drawn than the schedule wants, so that `steps` is the most; an image that is full
    earlier runs no network. Progress r is the schedule's, so guidance that grows with it may end
    early: take a constant one.
    """

    def hide(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        entropies = drawn.log_probs.flatten(1).masked_fill(~cells.flatten(1), torch.inf)
        ordered, order = entropies.sort(dim=1, stable=True)
        before = (ordered.cumsum(1) - ordered).nan_to_num(torch.inf)
        least = cells.flatten(1).sum(1) - now.num_hidden  # that the schedule wants
        wanted = torch.arange(before.shape[1], device=before.device) < least[:, None]
        kept = torch.zeros_like(wanted).scatter(1, order, wanted | (before <= bound))
        return cells & ~kept.view_as(cells)

    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    policy = Policy(_hidden, hide, draw=_with_entropy)
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)


def _hidden(hidden: Tensor, now: Round) -> Tensor:
    """Every hidden cell, of which nobody knows the number."""
    return hidden


def _with_entropy(logits: Tensor, u: Tensor, now: Round, **drawing: Any) -> Drawn:
    """As asked, with the entropy of what it was drawn from in the place of log-probabilities."""
    return Drawn(as_asked(logits, u, now, **drawing).codes, entropy(shaped(logits, **drawing)))
