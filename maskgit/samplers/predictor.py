"""All that a sampler may know of a model; and Watched, which remembers what a model was asked."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


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

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """As the predictor's own."""
        logits: Tensor = self.predictor.logits(codes, cells, r)
        if self.probabilities is None:
            self.probabilities = torch.full(
                (*codes.shape, logits.shape[-1]), torch.nan, device=codes.device
            )
        self.probabilities[cells] = logits.float().softmax(-1)
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
