"""Guided: the condition and classifier-free guidance, as a Predictor.

One definition everywhere: u + s (c - u), with c and u the logits with and without the condition; s
= 1 is no guidance (Ho & Salimans, arXiv:2207.12598). Others' numbers: Halton-MaskGIT's w is s - 1,
MaskBit's S is s - 1, aMUSEd's S is s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial
from typing import Annotated, Any, Protocol, cast

import torch
from annotated_types import Gt
from torch import Tensor

from maskgit.machine import upload
from maskgit.samplers.conditions import Condition, distinct, each, joined, on_host
from maskgit.samplers.predictor import Known, places_of
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


Mix = Callable[..., Tensor]
"""(rows, part) -> what is made of them: `rows` are those of several sides, one side after the
other, `part` the slice of a side's rows that they are, by default all."""


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
        mix: Mix | None = None,
    ) -> Tensor:
        """codes: (batch, h, w), cells: bool (batch, h, w) -> (cells.sum(), codebook_size).

        mix: rows -> rows, weighted means of them, which the logits are put through last, or what a
        linear head gets. It may also offer `parts_at(codes, condition, cells, mix, known, sides)`,
        the same rows in parts; and `device`, where it computes.
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
        self.mask_id = net.mask_id
        self.device: torch.device | None = getattr(net, "device", None)
        sides, self.share = [condition], cast(Tensor | None, None)
        if mixed_with is not None:
            other, share = mixed_with
            if bool((share == 1).all()):
                sides = [other]
            elif bool((share > 0).any()):
                sides, self.share = [condition, other], self._there(share)
        both = [joined(sides)]
        if scale != 1:  # else nothing is led away from: not every net knows what none is
            away = net.null(condition) if negative is None else negative
            both.append(joined((*sides, away)))
        self.many = len(sides)
        self.sides = [self._there(side) for side in sides]
        self.conditions = [self._there(side) for side in both]  # unguided, guided
        # told apart where they lie; what was given on an accelerator is not asked for
        self.alike = [distinct(None, side) if on_host(side) else None for side in both]
        name, options = split(schedule, "guidance schedule")
        self.schedule = partial(choose(GUIDANCE_SCHEDULES, name, "guidance schedule"), **options)
        self.interval = interval

    def _there(self, condition: Condition) -> Condition:
        """Where the net computes."""
        device = self.device
        return condition if device is None else each(lambda part: upload(part, device), condition)

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """codes: (batch, h, w), cells: bool (batch, h, w) -> float32 (cells.sum(), codebook_size)
        in row-major order.

        All sides run as one batch, and none without the condition where the scale is 1.
        """
        return torch.cat([*self.logits_in_parts(codes, cells, r, None)])

    def logits_in_parts(
        self, codes: Tensor, cells: Tensor, r: float, known: Known | None
    ) -> Iterator[Tensor]:
        """The same rows one part after another, as many at once as memory is meant for."""
        is_inside = self.scale != 1 and self.interval[0] <= r <= self.interval[1]
        scale = self.schedule(r, self.scale) if is_inside else 1.0
        is_guided = scale != 1
        condition = self.conditions[is_guided]
        many = self.many + is_guided
        share = None if self.share is None else self._at(self.share, cells, known)

        def guided(rows: Tensor, part: slice = slice(None)) -> Tensor:
            c, *others = rows.float().chunk(many)
            if share is not None:
                c = torch.lerp(c, others[0], share[part])
            return torch.lerp(others[-1], c, scale) if is_guided else c

        asked = torch.cat([codes] * many), condition, torch.cat([cells] * many)
        mix = guided if many > 1 else None
        parts_at = getattr(self.net, "parts_at", None)
        if parts_at is None:
            yield self.net.logits_at(*asked, mix).float()
            return
        if known is not None:
            alike = self.alike[is_guided] if known.blank else None
            known = known._replace(total=known.total * many, alike=alike)
        for logits in parts_at(*asked, mix, known, many):
            yield logits.float()

    @staticmethod
    def _at(share: Tensor, cells: Tensor, known: Known | None) -> Tensor:
        """(batch,) -> that of each cell, (cells.sum(), 1)."""
        places = places_of(cells, None if known is None else known.total)
        return share.index_select(0, places // cells[0].numel())[:, None]

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
