"""Draws: what chance decides in a training step, of each image, on the host.

Of a whole batch at once, so that a step is the same whatever processes and parts it is shared among
(but for dropout and a critic's codes); and known to the host, so that no accelerator is asked how
many cells are hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from maskgit.machine import upload
from maskgit.model.masking import stratified_times
from maskgit.model.objective import Objective
from maskgit.samplers.predictor import places_of


@dataclass(frozen=True)
class Draws:
    """No tuple: what runs a module on several devices would take it apart."""

    t: Tensor  # (batch,) float32, progress
    hidden: Tensor  # bool (batch, *grid), what is to be predicted
    shown: Tensor  # int64 (batch, *grid), what the net is shown of each cell; -1 for its own code
    room: Tensor  # int64 (batch,), how many cells may be hidden of each image, whatever the step
    dropped: Tensor | None  # bool (batch,), whose condition is the null; none: of no image
    first: Tensor | None  # bool (batch,), who sees a first pass of its own; none: all

    def of(self, images: Any) -> Draws:
        """Those of some images: a slice, or their numbers."""
        return self._each(lambda part: part[images])

    def split(self, parts: int) -> list[Draws]:
        """Those of equal parts of the batch, one after another."""
        size = -(-len(self.t) // parts)
        return [self.of(slice(start, start + size)) for start in range(0, len(self.t), size)]

    def on(self, device: torch.device) -> Draws:
        """All of them on a device, which is not waited for."""
        return self._each(lambda part: upload(part, device))

    def of_hidden(self, rows: Tensor, everywhere: bool) -> Tensor:
        """Of rows at `places`, those of the hidden cells."""
        if everywhere:
            return rows.index_select(0, self.places(False, rows.device))
        return rows[: len(places_of(self.hidden))]  # without what fills up

    def _each(self, work: Callable[[Tensor], Tensor]) -> Draws:
        found: dict[str, Any] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            found[field.name] = None if part is None else work(part)
        return Draws(**found)

    def places(self, everywhere: bool, device: torch.device, filled_up: bool = False) -> Tensor:
        """The numbers of the hidden cells, or of all, in row-major order: (n,) int64.

        filled_up: with -1, which is no cell, so that they are as many in every step.
        """
        if everywhere:
            return torch.arange(self.hidden.numel(), device=device)
        found = places_of(self.hidden)
        if filled_up:
            found = F.pad(found, (0, max(0, int(self.room.sum()) - len(found))), value=-1)
        return upload(found, device)


class Training(Protocol):
    """What draws ask of a NonAutoregressiveWrapper, in training or in eval mode."""

    net: Any
    mask_id: int
    training: bool
    self_cond: bool
    self_cond_train_prob: float
    condition_dropout: float

    @property
    def current(self) -> Objective:
        """What it hides, and what that costs."""
        ...


def draw(
    model: Training,
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    t: Tensor | None = None,
) -> Draws:
    """Of a batch of grids, shape (batch, *grid), where the generator is, by default on the host.

    t: (batch,), stratified by default.
    """
    device = torch.device("cpu") if generator is None else generator.device
    t = (stratified_times(shape[0], generator) if t is None else t).to(device)
    own = torch.full(tuple(shape), -1, device=device)
    shown, hidden = model.current.hide(own, t, model.mask_id, generator)

    room = model.current.most_hidden(t, hidden[0].numel())

    def coins(share: float, tossed: bool) -> Tensor | None:
        if not (tossed and model.training):
            return None
        return torch.rand(shape[0], generator=generator, device=device) < share

    drops = model.condition_dropout > 0 and hasattr(model.net, "null")
    dropped = coins(model.condition_dropout, drops)
    return Draws(
        t, hidden, shown, room, dropped, coins(model.self_cond_train_prob, model.self_cond)
    )
