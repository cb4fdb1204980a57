"""All that a sampler may know of a model; and Watched, which remembers what a model was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from maskgit.samplers.conditions import Distinct

PART = 2**27
"""Logits that are held at once, about: half a GiB in float32, and less than a kernel can index."""


class Known(NamedTuple):
    """What the host knows of the cells that a round asks for, so that no device is asked."""

    total: int  # how many there are
    # at most so many of an image are asked for, or have changed since the last round
    most: int | None = None
    blank: bool = False  # whether nothing is known yet in any of the grids
    alike: Distinct | None = None  # of the blank grids, which have the same condition


def places_of(cells: Tensor, total: int | None = None) -> Tensor:
    """The numbers of the chosen cells in row-major order: bool (batch, *grid) -> (total,) int64.

    total: cells.sum(), if the host knows it: an accelerator then need not be waited for.
    """
    flat = cells.flatten()
    if total is None or flat.device.type == "cpu":
        return flat.nonzero()[:, 0]
    return flat.nonzero_static(size=total)[:, 0]


def logits_in_parts(
    predictor: Predictor, codes: Tensor, cells: Tensor, r: float, known: Known
) -> Iterable[Tensor]:
    """The predictor's logits, a part of the rows at a time where it can."""
    in_parts = getattr(predictor, "logits_in_parts", None)
    if in_parts is None:
        return [predictor.logits(codes, cells, r)]
    return in_parts(codes, cells, r, known)  # type: ignore[no-any-return]


class Filled(NamedTuple):
    """A batch of grids after a round."""

    codes: Tensor  # (batch, h, w) int64, hidden cells equal to the mask id
    confidence: Tensor  # (batch, h, w) float32: how probable each code was when drawn, or nan


class Watched:
    """A Predictor that remembers the distribution each cell was last drawn from."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor  # a Predictor, with a critic or without
        self.mask_id: int = predictor.mask_id
        self.scores, self.self_scores = predictor.scores, predictor.self_scores
        self.probabilities: Tensor | None = None  # (batch, *grid, num_codes) float32

    def cached(self, refresh: int) -> Watched:
        """This one, which still remembers, on the predictor's cached passes."""
        self.predictor = self.predictor.cached(refresh)
        return self

    @property
    def device(self) -> torch.device | None:
        """The predictor's."""
        return getattr(self.predictor, "device", None)

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """As the predictor's own."""
        return self._remember(codes, cells, self.predictor.logits(codes, cells, r))

    def logits_in_parts(
        self, codes: Tensor, cells: Tensor, r: float, known: Known
    ) -> Iterator[Tensor]:
        """The same, in one."""
        parts = logits_in_parts(self.predictor, codes, cells, r, known)
        yield self._remember(codes, cells, torch.cat([*parts]))

    def _remember(self, codes: Tensor, cells: Tensor, logits: Tensor) -> Tensor:
        if self.probabilities is None:
            self.probabilities = torch.full(
                (*codes.shape, logits.shape[-1]), torch.nan, device=codes.device
            )
        self.probabilities.masked_scatter_(cells[..., None], logits.float().softmax(-1))
        return logits

    def confidence(self, codes: Tensor) -> Tensor:
        """Of each code when drawn, before temperature and top-k: (batch, *grid).

        nan where a cell is hidden, or never was.
        """
        if self.probabilities is None:
            return torch.full(codes.shape, torch.nan, device=codes.device)
        hidden = codes == self.mask_id
        found = self.probabilities.gather(-1, codes.masked_fill(hidden, 0)[..., None])[..., 0]
        return found.masked_fill(hidden, torch.nan)


class Predictor(Protocol):
    """All that a sampler may know of a model."""

    mask_id: int

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """Logits at the chosen cells only.

        It may also offer `logits_in_parts(codes, cells, r, known)`, the same rows one part after
        another, which is then asked; and `device`, where it computes.

        codes: (batch, h, w) int64; cells: bool (batch, h, w); r: progress in (0, 1] after this
        round -> (cells.sum(), codebook_size), row-major in `cells`, without the mask token.
        """
        ...


class Critical(Predictor, Protocol):
    """A Predictor with a second net that says which cells of a full grid look drawn."""

    def scores(self, codes: Tensor, r: float) -> Tensor:
        """codes: (batch, h, w) int64, none hidden -> logits (batch, h, w), high = drawn."""
        ...


class SelfCritical(Predictor, Protocol):
    """A Predictor that says so of its own grids: a head on the generator's embeddings."""

    def self_scores(self, codes: Tensor, r: float) -> Tensor:
        """codes: (batch, h, w) int64, none hidden -> logits (batch, h, w), high = drawn."""
        ...
