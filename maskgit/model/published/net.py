"""PublishedNet: what the nets of published generators have in common, over grids of codes.

A net says what its input is, what its blocks are, and what follows the last one; the rest is here:
passes over all cells, the answer at some of them, and passes that keep keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.passes import Keep, Passes
from maskgit.samplers.predictor import places_of

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values, each (batch, tokens, heads * dim_head) -> the same shape."""
Factors = Sequence[Tensor]
"""What the condition is to a block or to the last norm: each broadcasts with what it is given."""


class Beside(NamedTuple):
    """What a net has of each image, beside its cells."""

    tokens: Tensor  # (batch, n, dim): those that are no cell, such as one of the class; n may be 0
    factors: Tensor  # (batch, m, dim): of all adaptive norms, one after the other; m may be 0

    def of(self, images: Tensor) -> Beside:
        """That of some images."""
        return Beside(self.tokens[images], self.factors[images])


class Block(nn.Module):
    """One layer: attention over all tokens, then what each token does alone.

    num_factors: how many of the factors each half is given. The output of one that `keeps` is met
    again by a later one with a `skip`, a linear map of both side by side (U-ViT, arXiv:2209.12152).
    """

    num_factors: tuple[int, int] = (0, 0)
    keeps = False

    def __init__(self) -> None:
        super().__init__()
        self.skip: Any = None  # of the instance: a class's would hide the module of that name

    def mix(self, x: Tensor, factors: Factors, attend: Attend) -> Tensor:
        """x: (batch, tokens, dim) -> x after the attention."""
        raise NotImplementedError

    def feed(self, x: Tensor, factors: Factors) -> Tensor:
        """x: (batch, tokens, dim), or (n, dim) -> x after the block."""
        raise NotImplementedError


class PublishedNet(nn.Module):
    """A bidirectional transformer over grids of codes (batch, h, w), hidden ones codebook_size.

    condition: class labels (batch,) in [0, num_classes], num_classes being "no label". A net has
    `blocks`, and `to_logits`: (..., emb_dim) -> (..., codebook_size).
    """

    any_grid = False
    blocks: Any  # an nn.ModuleList of Blocks
    to_logits: Any

    def __init__(self, config: Mapping[str, Any], *, emb_dim: int) -> None:
        super().__init__()
        self.config = {k: v for k, v in config.items() if k not in ("self", "__class__")}
        self.codebook_size, self.num_classes = config["codebook_size"], config["num_classes"]
        self.grid = (int(config["grid"][0]), int(config["grid"][1]))
        self.emb_dim, self.num_tokens = emb_dim, self.codebook_size + 1
        self.heads = int(config["heads"])
        self.max_seq_len = self.grid[0] * self.grid[1]

    def cells(self, codes: Tensor) -> Tensor:
        """codes: (batch, h, w) -> what the blocks get: (batch, cells, dim)."""
        raise NotImplementedError

    def by(self, labels: Tensor) -> Beside:
        """(batch,) in [0, num_classes] -> what else they get."""
        raise NotImplementedError

    def start(self, x: Tensor) -> Tensor:
        """What each token goes through before the blocks: (batch, tokens, dim) -> the same."""
        return x

    def finish(self, x: Tensor, factors: Factors) -> Tensor:
        """What a cell goes through after them: (n, dim) -> (n, emb_dim)."""
        return x

    def check_grid(self, height: int, width: int) -> None:
        """ValueError if grids of this size cannot be run."""
        if (height, width) != self.grid:
            raise ValueError(
                f"this model knows grids of {self.grid[0]}x{self.grid[1]} cells only, "
                f"not {height}x{width}: it has learned positions"
            )

    def null(self, condition: Tensor) -> Tensor:
        """(batch,) labels that mean none."""
        return torch.full_like(condition, self.num_classes)

    def inputs(
        self, codes: Tensor, condition: Tensor | None, sum_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """(batch, cells, dim), the labels (batch,), and no rotary angles."""
        self.check_grid(*codes.shape[1:])
        x = self.cells(codes)
        if sum_embeds is not None:
            x = x + sum_embeds.flatten(1, 2)
        if condition is None:
            condition = self.null(codes.new_empty(len(codes)))
        return x, condition, None

    def through(
        self,
        x: Tensor,
        by: Beside,
        angles: Tensor | None,
        places: Tensor,
        keep: Keep | None = None,
    ) -> Tensor:
        """All blocks; x: (batch, cells, dim), places: (n,) numbers of cells -> (n, emb_dim).

        What follows the last attention is done for these cells alone.
        """
        cells, image = x.shape[1], places // x.shape[1]
        sizes = [size for block in self.blocks for size in block.num_factors]
        rest = by.factors.shape[1] - sum(sizes)
        *factors, last = by.factors.split([*sizes, rest], 1)
        kept: list[Tensor] = []
        x = self.start(torch.cat((x, by.tokens), 1))
        for number, block in enumerate(self.blocks):
            if block.skip is not None:
                x = block.skip(torch.cat((x, kept.pop()), -1))
            attend = partial(self._attend, keep, number, cells)
            x = block.mix(x, factors[2 * number][:, :, None].unbind(1), attend)
            own: Factors = factors[2 * number + 1][:, :, None].unbind(1)
            if number == len(self.blocks) - 1:
                x = x[:, :cells].flatten(0, 1).index_select(0, places)
                own = _at(image, factors[-1])
            x = block.feed(x, own)
            if block.keeps:
                kept.append(x)
        return self.finish(x, _at(image, last))

    def _attend(
        self, keep: Keep | None, number: int, cells: int, q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        """Attention of all tokens to all; the keys and values of cells may be kept ones."""
        q, k, v = (side.unflatten(-1, (self.heads, -1)).transpose(1, 2) for side in (q, k, v))
        if keep is not None:
            new = keep(number, k[:, :, :cells], v[:, :, :cells])
            k, v = (
                torch.cat((old, side[:, :, cells:]), 2)
                for old, side in zip(new, (k, v), strict=True)
            )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def embed_at(
        self,
        codes: Tensor,
        cells: Tensor,
        condition: Tensor | None = None,
        *,
        sum_embeds: Tensor | None = None,
    ) -> Tensor:
        """What `forward` gives with return_embeddings, at the chosen cells only.

        cells: bool (batch, h, w), or the numbers of cells (n,) int64 -> (n, emb_dim), row by row.
        """
        x, labels, angles = self.inputs(codes, condition, sum_embeds)
        places = places_of(cells) if cells.dtype == torch.bool else cells
        return self.through(x, self.by(labels), angles, places)

    def sampling_passes(self, refresh: int) -> Passes:
        """Those of one sampling, over some of the cells only; every `refresh`-th is whole."""
        return Passes(self, refresh)

    def forward(
        self,
        codes: Tensor,
        condition: Tensor | None = None,
        *,
        sum_embeds: Tensor | None = None,
        return_embeddings: bool = False,
    ) -> Tensor:
        """codes: (batch, h, w) -> logits: (batch, h, w, codebook_size), or embeddings.

        condition: (batch,), none meaning "no label" for all; sum_embeds: (batch, h, w, dim), added
        to the input.
        """
        every = torch.arange(codes.numel(), device=codes.device)
        found = self.embed_at(codes, every, condition, sum_embeds=sum_embeds)
        found = found.view(*codes.shape, self.emb_dim)
        return found if return_embeddings else self.to_logits(found)  # type: ignore[no-any-return]


def _at(image: Tensor, factors: Tensor) -> Factors:
    """Those of each cell: (n,) its image, (batch, m, dim) -> m of (n, dim)."""
    return [F.embedding(image, factor) for factor in factors.unbind(1)]
