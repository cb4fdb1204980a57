"""Conditioned: a wrapper with all that a batch is conditioned on, as the samplers and guidance ask for a model; and
Watched, which remembers what a model was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maskgit.passes import distinct


class Conditioned:
    """The wrapper with fixed conditioning, as what Guided asks for and, without labels, as a Predictor.

    It remembers the embeddings of the last round where the net is conditioned on them. conditioning: of `batch`
    images; for guidance it is repeated for the second half.
    """

    def __init__(self, wrapper: Any, batch: int, conditioning: Mapping[str, Any]) -> None:
        self.wrapper = wrapper  # a NonAutoregressiveWrapper, whose module imports this one
        self.batch, self.conditioning = batch, conditioning
        self.mask_id = wrapper.mask_id
        self.num_classes: int = getattr(wrapper.net, "num_classes", 0)  # the label that means none
        self.last: Tensor | None = None
        self.is_first = True
        has_passes = hasattr(wrapper.net, "sampling_passes") and not wrapper.self_cond and not conditioning
        self.passes: Any = wrapper.net.sampling_passes(1) if has_passes else None

    def cached(self, refresh: int) -> Conditioned:
        """The same, with a whole pass in every `refresh`-th round only; ValueError if the model cannot."""
        if self.passes is None:
            raise ValueError(
                "refresh > 1 needs a maskgit.Transformer without self-conditioning, conditioned on its labels only"
            )
        found = Conditioned(self.wrapper, self.batch, {})
        found.passes = self.wrapper.net.sampling_passes(refresh)
        return found

    def _for(self, rows: int, labels: Tensor | None) -> dict[str, Any]:
        def repeated(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: repeated(part) for key, part in value.items()}
            many = isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.batch
            return torch.cat([value] * (rows // self.batch)) if many else value

        given = {key: repeated(value) for key, value in self.conditioning.items()}
        return given if labels is None else given | {"labels": labels}

    def logits_at(
        self, codes: Tensor, labels: Tensor | None, cells: Tensor, mix: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """codes: (one or more times batch, *grid) -> float32 (cells.sum(), num_codes), or what `mix` makes of them.

        mix: rows -> rows, weighted means of them; where the head is linear it gets the embeddings, so that the head
        runs on its result only.
        """
        embeddings, number = self._embed_at(codes, labels, cells)
        if mix is not None and isinstance(self.wrapper.net.to_logits, nn.Linear):
            rows = embeddings if number is None else embeddings[number]
            mixed: Tensor = self.wrapper.to_logits(mix(rows).to(rows.dtype))
            return mixed
        logits: Tensor = self.wrapper.to_logits(embeddings)
        logits = logits if number is None else logits[number]
        return logits if mix is None else mix(logits)

    def _embed_at(self, codes: Tensor, labels: Tensor | None, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embeddings, and which of them is each cell's: (cells.sum(),); none where they are in row-major order."""
        if self.passes is not None:
            return self.passes.rows_at(codes, labels, cells)  # type: ignore[no-any-return]
        if not self.wrapper.self_cond:
            return self._alike_once(codes, labels, cells)
        last = self.last
        if last is not None and len(last) != len(codes):  # guidance begins or ends in this round
            last = torch.cat((last, last))[: len(codes)]
        embeddings = self.wrapper.embed(codes, last, **self._for(len(codes), labels))
        # an image that is asked for nothing would not have been run if it were alone
        asked = cells.flatten(1).any(1).view(-1, *[1] * codes.ndim)
        null = self.wrapper.null_embed.expand_as(embeddings)
        self.last = torch.where(asked, embeddings, null if last is None else last)
        return embeddings[cells], None

    def _alike_once(self, codes: Tensor, labels: Tensor | None, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """In the first round, images of equal grids and labels run once: at the start all grids are hidden."""
        is_first, self.is_first = self.is_first, False
        if not is_first or self.conditioning:
            return self.wrapper.embed(codes, cells=cells, **self._for(len(codes), labels)), None
        alike = distinct(codes, labels)
        asked, number = alike.asked(cells)
        given = {} if labels is None else {"labels": labels[alike.first]}
        return self.wrapper.embed(codes[alike.first], cells=asked, **given), number

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """As a Predictor."""
        return self.logits_at(codes, None, cells)

    def scores_at(self, codes: Tensor, labels: Tensor | None, own: bool) -> Tensor:
        """Logits of full grids by the token critic, or by the net's `own`: (batch, *grid)."""
        logits: Tensor = self.wrapper.criticise(codes, own, **self._for(len(codes), labels)).float()
        return logits

    def scores(self, codes: Tensor, r: float) -> Tensor:
        """As a Predictor with a token critic."""
        return self.scores_at(codes, None, own=False)

    def self_scores(self, codes: Tensor, r: float) -> Tensor:
        """As a Predictor with a self-critic."""
        return self.scores_at(codes, None, own=True)


class Filled(NamedTuple):
    """A batch of grids after a round."""

    codes: Tensor  # (batch, h, w) int64, hidden cells equal to the mask id
    confidence: Tensor  # (batch, h, w) float32: the model's probability of each code when drawn; nan where none was


class Watched:
    """A Predictor that remembers what it was asked: the distribution of each cell when it was last drawn from."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor  # a Predictor, with a critic or without
        self.mask_id: int = predictor.mask_id
        self.scores, self.self_scores = predictor.scores, predictor.self_scores
        self.probabilities: Tensor | None = None  # (batch, *grid, num_codes) float32

    def cached(self, refresh: int) -> Watched:
        """This one itself, so that what it remembers can still be asked, on the predictor's cached passes."""
        self.predictor = self.predictor.cached(refresh)
        return self

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """As the predictor's own."""
        logits: Tensor = self.predictor.logits(codes, cells, r)
        if self.probabilities is None:
            self.probabilities = torch.full((*codes.shape, logits.shape[-1]), torch.nan, device=codes.device)
        self.probabilities[cells] = logits.float().softmax(-1)
        return logits

    def confidence(self, codes: Tensor) -> Tensor:
        """The model's probability of each code when it was drawn, before temperature and top-k: (batch, *grid).

        nan where a cell is hidden, or never was.
        """
        if self.probabilities is None:
            return torch.full(codes.shape, torch.nan, device=codes.device)
        hidden = codes == self.mask_id
        found = self.probabilities.gather(-1, codes.masked_fill(hidden, 0)[..., None])[..., 0]
        return found.masked_fill(hidden, torch.nan)
