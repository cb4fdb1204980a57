"""The moment sampler: MaskGIT's, with the cells chosen before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maskgit.samplers.engine import (
    Counts,
    Drawn,
    Policy,
    Ramp,
    Round,
    Rounds,
    as_hidden,
    as_revealed,
    counted,
    draw,
    falling,
    fill,
    gumbel,
    highest,
    ramp_at,
    shaped,
)
from maskgit.samplers.predictor import Predictor
from maskgit.schedules import ScheduleSpec
from vqgan.registry import Positive, Share

LEAST = 1e-3
"""The smallest choice temperature: below it the surest cell and its likeliest code are certain."""


def moment(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    choice_temperature: Ramp = (4.5, 0.0),
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """Choose, then draw (Hayakawa et al., arXiv:2510.04525): what `confidence` does where there are
    many cells, without a code drawn in vain.

    With b = 1 + 1 / choice temperature, cells are chosen without replacement by weights sum_x
    p(x)^b, and their codes drawn by p(x)^b; those of a last round at r = 1, where nothing is
    chosen, by p (few cells in many steps, as of an inpainting, are all drawn before r = 1). A
    single choice temperature falls to 0. With `refresh` > 1 the weights of the last whole round
    choose, so that in the others only the chosen cells run through the net (see `fill`).
    """
    choice = falling(choice_temperature, "choice_temperature")
    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    chooser = _Chooser(choice, refresh)
    policy = Policy(chooser.cells, chooser.hide, chooser.counts, chooser.draw)
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)


class _Chooser:
    """The weights of the last whole round, and the policy that chooses by them."""

    def __init__(self, choice: Ramp, refresh: int) -> None:
        self.choice, self.refresh = choice, refresh
        self.round, self.whole = 0, True
        self.weights: Tensor | None = None  # (batch, cells) float32, the logarithms

    def cells(self, hidden: Tensor, now: Round) -> Tensor:
        """All of them in a whole round, which `hide` then chooses among; else the chosen ones."""
        self.whole = self.round % self.refresh == 0 or now.r == 1
        self.round += 1
        if self.whole:
            return hidden
        left = hidden.flatten(1)
        return self._chosen(left, left.sum(1) - now.num_hidden, now).view_as(hidden)

    def counts(self, before: Counts, after: Counts) -> Counts:
        """How many `cells` gave."""
        return (as_hidden if self.whole else as_revealed)(before, after)

    def draw(self, logits: Tensor, u: Tensor, now: Round, **drawing: Any) -> Drawn:
        """By p^b, with log sum p^b in the place of log-probabilities."""
        if now.r == 1:
            return draw(logits, u, **drawing)
        power = 1 + 1 / max(ramp_at(self.choice, now.r), LEAST)
        raised = power * shaped(logits, **drawing).log_softmax(-1)
        temperature = 0.0 if drawing["temperature"] == 0 else 1.0
        return Drawn(draw(raised, u, temperature=temperature).codes, raised.logsumexp(-1))

    def hide(self, codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        """In a whole round all but the chosen cells."""
        if not self.whole:
            return torch.zeros_like(cells)
        self.weights = drawn.log_probs.flatten(1)
        left = cells.flatten(1)
        return cells & ~self._chosen(left, left.sum(1) - now.num_hidden, now).view_as(cells)

    def _chosen(self, left: Tensor, count: Tensor, now: Round) -> Tensor:
        """So many of bool (batch, cells), by the Gumbel-max trick, without replacement."""
        assert self.weights is not None  # the first round is whole
        scores = self.weights + gumbel(now.u).float()
        return highest(scores.masked_fill(~left, -torch.inf), count)
