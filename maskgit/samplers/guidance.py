"""Guided: the condition and classifier-free guidance, as a Predictor.

One definition everywhere: u + s (c - u), with c and u the logits with and without the condition; s
= 1 is no guidance (Ho & Salimans, arXiv:2207.12598). Others' numbers: Halton-MaskGIT's w is s - 1,
MaskBit's S is s - 1, aMUSEd's S is s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Annotated, Any, Protocol, cast

import torch
from annotated_types import Gt
from torch import Tensor

from maskgit.samplers.conditions import Condition, joined
from vqgan.registry import choose, split


def constant(r: float, scale: float) -> float:
    """The same scale in every round."""
    return scale


def linear(r: float, scale: float) -> float:
    """From 1 to `scale`: guidance on an empty canvas destroys variety (Muse, arXiv:2301.00704)."""
    return 1 + (scale - 1) * r


def power_cosine(r: float, scale: float, *, power: Annotated[float, Gt(0)] = 1.0) -> float:
    """1 + (s - 1) (1 - cos(pi r^power)) / 2 (MDTv2, arXiv:2303.14389)."""
    return 1 + (scale - 1) * 0.5 * (1 - math.cos(math.pi * r**power))


GUIDANCE_SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "power_cosine": power_cosine,
}


class ConditionalNet(Protocol):
    """What guidance needs of a model, such as maskgit.model.Conditioned."""

    mask_id: int

    def null(self, condition: Condition) -> Condition:
        """A condition of as many images that means none."""
        ...

    def logits_at(
        self,
        codes: Tensor,
        condition: Condition,
        cells: Tensor,
        mix: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """codes: (batch, h, w), cells: bool (batch, h, w) -> (cells.sum(), codebook_size).

        mix: rows -> rows, weighted means of them, which the logits are put through last, or what a
        linear head gets.
        """
        ...


class Guided:
    """A Predictor that knows the condition of a batch (conditions.py).

    interval: the progress r at which guidance works (arXiv:2404.07724); outside it the scale is 1.
    negative: the condition that u is of, what to lead away from; the net's null by default.
    mixed_with: another condition and its share (batch,) in [0, 1]: c is then (1 - share) of the
    one's logits and `share` of the other's, so that it draws from the normalised product p^(1 -
    share) q^share, and one condition turns into another smoothly.
    """

    def __init__(
        self,
        net: ConditionalNet,
        condition: Condition,
        *,
        scale: float = 1.0,
        schedule: str | Mapping[str, Any] = "constant",
        interval: tuple[float, float] = (0.0, 1.0),
        negative: Condition | None = None,
        mixed_with: tuple[Condition, Tensor] | None = None,
    ) -> None:
        self.net, self.scale = net, scale
        self.sides, self.share = [condition], cast(Tensor | None, None)
        if mixed_with is not None:
            other, share = mixed_with
            if bool((share == 1).all()):
                self.sides = [other]
            elif bool((share > 0).any()):
                self.sides, self.share = [condition, other], share
        away = net.null(condition) if negative is None else negative
        self.condition = joined(self.sides)
        self.guided_condition = joined((*self.sides, away))
        self.many = len(self.sides)
        self.mask_id = net.mask_id
        name, options = split(schedule, "guidance schedule")
        self.schedule = partial(choose(GUIDANCE_SCHEDULES, name, "guidance schedule"), **options)
        self.interval = interval

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """codes: (batch, h, w), cells: bool (batch, h, w) -> float32 (cells.sum(), codebook_size)
        in row-major order.

        All sides run as one batch, and none without the condition where the scale is 1.
        """
        scale = self.schedule(r, self.scale) if self.interval[0] <= r <= self.interval[1] else 1.0
        condition = self.condition if scale == 1 else self.guided_condition
        many = self.many if scale == 1 else self.many + 1
        if many == 1:
            return self.net.logits_at(codes, condition, cells).float()
        share = None if self.share is None else self._at(self.share, cells)

        def guided(sides: Tensor) -> Tensor:
            c, *others = sides.float().chunk(many)
            if share is not None:
                c = torch.lerp(c, others[0], share)
            return c if scale == 1 else torch.lerp(others[-1], c, scale)

        both = torch.cat([codes] * many), condition, torch.cat([cells] * many)
        return self.net.logits_at(*both, guided).float()

    @staticmethod
    def _at(share: Tensor, cells: Tensor) -> Tensor:
        """(batch,) -> that of each cell, (cells.sum(), 1)."""
        return share.view(-1, 1, 1).expand_as(cells)[cells][:, None]

    def cached(self, refresh: int) -> Guided:
        """The same, with a whole pass in every `refresh`-th round only.

        ValueError if the net cannot.
        """
        found = copy(self)
        make = getattr(self.net, "cached", None)
        if make is None:
            raise ValueError("this model is run whole in every round: refresh can only be 1")
        found.net = make(refresh)
        return found

    def scores(self, codes: Tensor, r: float) -> Tensor:
        """The token critic's logits of full grids (batch, h, w), conditioned.

        ValueError if there is none.
        """
        return self._scores(codes, own=False)

    def self_scores(self, codes: Tensor, r: float) -> Tensor:
        """The same of the model's own critic."""
        return self._scores(codes, own=True)

    def _scores(self, codes: Tensor, own: bool) -> Tensor:
        scores_at = getattr(self.net, "scores_at", None)
        if scores_at is None:
            raise ValueError("samplers that ask a critic need a model with one")
        first, *second = [scores_at(codes, side, own) for side in self.sides]
        return (
            first if self.share is None else torch.lerp(first, second[0], self.share.view(-1, 1, 1))
        )
