"""PlacedNet: nets whose head depends on where a code lies: in which cell, and which of its codes.

What a net says of a code is its cell's embedding and three numbers more: the cell, as two digits,
and the number of the code in its cell. So embeddings of some codes only, in any order, are enough
for the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.passes import Keep
from maskgit.model.published.net import Beside, PublishedNet
from maskgit.model.rows import linear_rows

BASE = 128
"""Of the digits of a place: bf16 holds whole numbers up to 256."""


def digits(places: Tensor) -> Tensor:
    """(...) int64 -> (..., 2): the low one first."""
    return torch.stack((places % BASE, places // BASE), -1)


class PlacedHead(nn.Module):
    """Logits by the weights of a code's group, and by a bias of its cell.

    groups: the codes of a cell, each with weights of its own; positions: the cells with a bias of
    their own, 1 if they share it.
    """

    def __init__(self, dim: int, codebook_size: int, groups: int = 1, positions: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, codebook_size, dim) * 0.02)
        self.bias = nn.Parameter(torch.zeros(groups, positions, codebook_size))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(..., dim + 3) -> (..., codebook_size)."""
        x, place = embeddings.split([embeddings.shape[-1] - 3, 3], -1)
        low, high, group = place.detach().long().unbind(-1)
        groups, positions = self.bias.shape[:2]
        table = self.bias.flatten(0, 1)
        bias = F.embedding(group * positions + (low + BASE * high) % positions, table)
        logits = linear_rows(x, self.weight.flatten(0, 1)).unflatten(-1, (groups, -1))
        return logits.take_along_dim(group[..., None, None], -2).squeeze(-2) + bias


class PlacedNet(PublishedNet):
    """A PublishedNet that runs a token for each cell, of `codes_per_cell` codes side by side.

    A grid is (h, w * codes_per_cell), its codes are asked for one by one, and what the head is
    given ends with where each lies. `to_logits` is a PlacedHead.
    """

    def __init__(self, config: Mapping[str, Any], *, dim: int, codes_per_cell: int = 1) -> None:
        super().__init__(config, emb_dim=dim + 3)
        self.dim, self.codes_per_cell = dim, codes_per_cell
        if self.grid[1] % codes_per_cell:
            raise ValueError(
                f"grids of {self.grid[0]}x{self.grid[1]} do not hold {codes_per_cell} codes a cell"
            )
        self.num_cells = self.max_seq_len // codes_per_cell

    def inputs(
        self, codes: Tensor, condition: Tensor | None, sum_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """(batch, cells, dim + 2) with the place of each, the labels (batch,), and no angles."""
        if sum_embeds is not None:  # of each code: a cell takes their mean
            of_cells = sum_embeds.unflatten(2, (-1, self.codes_per_cell)).mean(3)
            sum_embeds = of_cells[..., : self.dim]
        x, labels, angles = super().inputs(codes, condition, sum_embeds)
        place = digits(torch.arange(x.shape[1], device=x.device)).to(x.dtype)
        return torch.cat((x, place.expand(len(x), -1, -1)), -1), labels, angles

    def through(
        self,
        x: Tensor,
        by: Beside,
        angles: Tensor | None,
        places: Tensor,
        keep: Keep | None = None,
    ) -> Tensor:
        """All blocks; places: (n,) numbers of codes -> (n, emb_dim)."""
        x, place = x.split([self.dim, 2], -1)
        cells, group = places // self.codes_per_cell, places % self.codes_per_cell
        found = super().through(x, by, angles, cells, keep)
        place = place.flatten(0, 1).index_select(0, cells)
        return torch.cat((found, place, group[:, None].to(found.dtype)), -1)
