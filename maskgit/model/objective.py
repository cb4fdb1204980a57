"""Objective: what a training step hides, and what the cross-entropy of each cell counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from maskgit.model.masking import Corrupted, corrupt, count_hidden, hide_exactly, hide_independently
from maskgit.schedules import Schedule, mdlm_weight
from vqgan.devices import widest_float

Normalization = Literal["cell", "image"]
NORMALIZATIONS = get_args(Normalization)


class Losses(NamedTuple):
    """What a training forward returns; the same fields as x-transformers'."""

    loss: Tensor  # what to differentiate, scalar
    generator_loss: Tensor  # the cross-entropy of the codes, scalar, detached
    critic_loss: Tensor | None  # scalar, detached; none without a critic


@dataclass(frozen=True)
class Objective:
    """The mean cross-entropy of hidden cells (MaskGIT), or MDLM's bound; options as in the wrapper.

    mdlm: cells are hidden independently, an image costs w(t) = -gamma'/gamma times its summed
    cross-entropy, over its cells; then no smoothing applies, and visible cells cost nothing.
    ValueError for an unknown normalization.
    """

    schedule: Schedule
    normalization: Normalization = "cell"
    label_smoothing: float = 0.0
    visible_weight: float = 0.0
    no_replace_prob: float = 0.0
    random_token_prob: float = 0.0
    mdlm: bool = False

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization is one of {', '.join(NORMALIZATIONS)}, not {self.normalization!r}"
            )
        if self.mdlm:
            object.__setattr__(self, "label_smoothing", 0.0)
            object.__setattr__(self, "visible_weight", 0.0)

    @property
    def evaluated(self) -> Objective:
        """The same without smoothing, noise on the input and visible cells: what is compared."""
        nothing = dict.fromkeys(
            ("label_smoothing", "visible_weight", "no_replace_prob", "random_token_prob"), 0.0
        )
        return replace(self, **nothing)  # type: ignore[arg-type]

    def hide(
        self, codes: Tensor, t: Tensor, mask_id: int, generator: torch.Generator | None
    ) -> Corrupted:
        """codes: (batch, *grid) int64, t: (batch,) -> what the net sees, and what is hidden."""
        if self.mdlm:
            hidden = hide_independently(codes, self.schedule(t), generator)
        else:
            hidden = hide_exactly(
                codes, count_hidden(self.schedule, t, codes[0].numel()), generator
            )
        noise = {
            "no_replace_prob": self.no_replace_prob,
            "random_token_prob": self.random_token_prob,
        }
        return corrupt(
            codes, hidden, mask_id=mask_id, num_codes=mask_id, **noise, generator=generator
        )

    @property
    def everywhere(self) -> bool:
        """Whether all cells cost something, not the hidden ones alone."""
        return bool(self.visible_weight)

    def weight_of(self, t: Tensor, num_cells: int) -> Tensor:
        """The divisor of the loss of images at t (batch,): their cells' weights, or the images."""
        if self.mdlm or self.normalization == "image":
            return torch.tensor(float(len(t) * (num_cells if self.mdlm else 1)), device=t.device)
        return self._cell_weights(count_hidden(self.schedule, t, num_cells), num_cells).sum()

    def _cell_weights(self, num_hidden: Tensor, num_cells: int) -> Tensor:
        """The weights of all cells of each image together: (batch,)."""
        return num_hidden + (num_cells - num_hidden) * self.visible_weight

    def most_hidden(self, t: Tensor, num_cells: int) -> Tensor:
        """How many cells of each image of a batch are hidden at most, (batch,), wherever its t lies
        in its stratum: the same in all steps."""
        if self.mdlm:
            return torch.full_like(t, num_cells, dtype=torch.int64)
        first = (t.to(widest_float(t.device)) * len(t)).floor() / len(t)
        return count_hidden(self.schedule, first, num_cells)

    def summed(self, losses: Tensor, hidden: Tensor, t: Tensor, places: Tensor) -> Tensor:
        """The weighted sum of the cross-entropies (n,) of cells.

        places: (n,), which cells they are of: those that cost anything; -1 is no cell.
        """
        if self.mdlm:
            weights = mdlm_weight(self.schedule, t).float()
        elif self.normalization == "image":
            weights = 1 / self._cell_weights(hidden.flatten(1).sum(1), hidden[0].numel())
        else:
            weights = torch.ones_like(t, dtype=torch.float32)
        is_cell, places = places >= 0, places.clamp(min=0)
        of_cells = weights.view(-1, *[1] * (hidden.ndim - 1)) * torch.where(
            hidden, 1.0, self.visible_weight
        )
        counts = of_cells.flatten().index_select(0, places)
        return (losses * torch.where(is_cell, counts, 0.0)).sum()
