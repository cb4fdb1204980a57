"""Conditioned: a wrapper with all that a batch is conditioned on, as samplers and guidance ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from maskgit.machine import upload
from maskgit.model.alike import first_alike
from maskgit.model.likelihood import Predicting
from maskgit.samplers.conditions import Condition, some
from maskgit.samplers.guidance import Guided, Mix
from maskgit.samplers.predictor import PART, Known, Predictor, places_of


class MaskedModel(Predicting, Protocol):
    """What Conditioned asks of a NonAutoregressiveWrapper."""

    net: Any  # with the surface that the wrapper names
    self_cond: bool

    @property
    def num_codes(self) -> int:
        """The codes that exist."""
        ...

    @property
    def null_embed(self) -> Tensor:
        """(dim,), where it is self-conditioned."""
        ...

    def criticise(self, codes: Tensor, own: bool | None = None, **conditioning: Any) -> Tensor:
        """One logit a cell of full grids."""
        ...


class Conditioned:
    """A model with fixed conditioning, as what Guided asks for and, without a condition, as a
    Predictor.

    It remembers the embeddings of the last round where the net is conditioned on them.
    conditioning: of `batch` images, whatever else the net is given by name; for guidance it is
    repeated for the second half.
    """

    def __init__(self, model: MaskedModel, batch: int, conditioning: Mapping[str, Any]) -> None:
        self.model, self.batch, self.conditioning = model, batch, conditioning
        self.mask_id = model.mask_id
        self.device = next(model.net.parameters()).device
        self.last: Tensor | None = None
        self.is_first = True
        has_passes = (
            hasattr(model.net, "sampling_passes") and not model.self_cond and not conditioning
        )
        self.passes: Any = model.net.sampling_passes(1) if has_passes else None

    def null(self, condition: Condition) -> Condition:
        """What means none to the net; ValueError if it knows no such thing."""
        if not hasattr(self.model.net, "null"):
            raise ValueError("guidance needs a net with `null(condition)`: this one has none")
        return self.model.net.null(condition)

    def cached(self, refresh: int) -> Conditioned:
        """The same, with a whole pass in every `refresh`-th round only.

        ValueError if the model cannot.
        """
        if self.passes is None:
            raise ValueError(
                "refresh > 1 needs a maskgit.Transformer without self-conditioning, "
                "conditioned on its labels only"
            )
        found = Conditioned(self.model, self.batch, {})
        found.passes = self.model.net.sampling_passes(refresh)
        return found

    def _for(self, rows: int, condition: Condition | None) -> dict[str, Any]:
        def repeated(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: repeated(part) for key, part in value.items()}
            many = isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.batch
            return torch.cat([value] * (rows // self.batch)) if many else value

        given = {key: repeated(value) for key, value in self.conditioning.items()}
        return given if condition is None else given | {"condition": condition}

    def logits_at(
        self,
        codes: Tensor,
        condition: Condition | None,
        cells: Tensor,
        mix: Mix | None = None,
    ) -> Tensor:
        """codes: (one or more times batch, *grid) -> float32 (cells.sum(), num_codes), or what
        `mix` makes of them.

        mix: rows -> rows, weighted means of them; where the head is linear it gets the embeddings,
        so that the head runs on its result only.
        """
        embeddings, number = self._embed_at(codes, condition, cells, None)
        return self._logits(embeddings, number, mix)

    def parts_at(
        self,
        codes: Tensor,
        condition: Condition | None,
        cells: Tensor,
        mix: Mix | None = None,
        known: Known | None = None,
        sides: int = 1,
    ) -> Iterator[Tensor]:
        """The same rows in parts of about PART logits; codes: `sides` times a batch."""
        embeddings, number = self._embed_at(codes, condition, cells, known)
        rows = len(embeddings) if number is None else len(number)
        size, step = rows // sides, max(1, PART // (sides * self.model.num_codes))
        if size <= step:
            yield self._logits(embeddings, number, mix)
            return
        for start in range(0, size, step):
            part = slice(start, start + step)
            if number is None:
                taken = embeddings.unflatten(0, (sides, size))[:, part].flatten(0, 1)
            else:
                taken = embeddings[number.view(sides, size)[:, part].flatten()]
            yield self._logits(taken, None, mix and partial(mix, part=part))

    def _logits(self, embeddings: Tensor, number: Tensor | None, mix: Mix | None) -> Tensor:
        """number: (n,) which of the embeddings is each row's, if not its own."""
        if mix is not None and isinstance(self.model.net.to_logits, nn.Linear):
            rows = embeddings if number is None else embeddings[number]
            mixed: Tensor = self.model.to_logits(mix(rows).to(rows.dtype))
            return mixed
        if number is not None and len(number) < len(embeddings):  # the head runs on the fewer
            embeddings, number = embeddings[number], None
        logits: Tensor = self.model.to_logits(embeddings)
        logits = logits if number is None else logits[number]
        return logits if mix is None else mix(logits)

    def _embed_at(
        self, codes: Tensor, condition: Condition | None, cells: Tensor, known: Known | None
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings, and each cell's index among them; none where they are in row-major order."""
        if self.passes is not None:
            return self.passes.rows_at(codes, condition, cells, known)  # type: ignore[no-any-return]
        places = places_of(cells, None if known is None else known.total)
        if not self.model.self_cond:
            return self._alike_once(codes, condition, places, known)
        last = self.last
        if last is not None and len(last) != len(codes):  # guidance begins or ends in this round
            last = torch.cat((last, last))[: len(codes)]
        embeddings = self.model.embed(codes, last, **self._for(len(codes), condition))
        # an image that is asked for nothing would not have been run if it were alone
        asked = cells.flatten(1).any(1).view(-1, *[1] * codes.ndim)
        null = self.model.null_embed.expand_as(embeddings)
        self.last = torch.where(asked, embeddings, null if last is None else last)
        return embeddings.flatten(0, -2).index_select(0, places), None

    def _alike_once(
        self, codes: Tensor, condition: Condition | None, places: Tensor, known: Known | None
    ) -> tuple[Tensor, Tensor | None]:
        """In the first round all grids are hidden: equal grids and conditions run once."""
        is_first, self.is_first = self.is_first, False
        alike = None
        if is_first and not self.conditioning:
            alike = first_alike(codes, condition, known)
        if alike is None:
            given = self._for(len(codes), condition)
            return self.model.embed(codes, cells=places, **given), None
        first, of_row = (upload(part, codes.device) for part in alike)
        given = {} if condition is None else {"condition": some(condition, first)}
        embeddings = self.model.embed(codes[first], **given).flatten(0, -2)
        size = codes[0].numel()
        return embeddings, of_row[places // size] * size + places % size

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """As a Predictor."""
        return self.logits_at(codes, None, cells)

    def logits_in_parts(
        self, codes: Tensor, cells: Tensor, r: float, known: Known
    ) -> Iterator[Tensor]:
        """As a Predictor, the same rows one part after another."""
        return self.parts_at(codes, None, cells, None, known)

    def scores_at(self, codes: Tensor, condition: Condition | None, own: bool) -> Tensor:
        """Logits of full grids by the token critic, or by the net's `own`: (batch, *grid)."""
        logits: Tensor = self.model.criticise(
            codes, own, **self._for(len(codes), condition)
        ).float()
        return logits

    def scores(self, codes: Tensor, r: float) -> Tensor:
        """As a Predictor with a token critic."""
        return self.scores_at(codes, None, own=False)

    def self_scores(self, codes: Tensor, r: float) -> Tensor:
        """As a Predictor with a self-critic."""
        return self.scores_at(codes, None, own=True)


def predictor_for(
    model: MaskedModel,
    codes: Tensor,
    condition: Condition | None,
    guidance: float,
    conditioning: Mapping[str, Any],
) -> Predictor:
    """A model for a batch of grids (batch, *grid), guided by its condition.

    A net that does not know what none is gets the condition as all other conditioning, unguided.
    """
    if condition is not None and not hasattr(model.net, "null") and guidance == 1:
        conditioning, condition = {**conditioning, "condition": condition}, None
    predictor = Conditioned(model, len(codes), conditioning)
    if condition is None:
        return predictor
    return Guided(predictor, condition, scale=guidance)
