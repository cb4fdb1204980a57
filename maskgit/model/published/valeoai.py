"""The net of valeoai's Maskgit-pytorch, version 1 (Besnier and Chen, arXiv:2310.14400; MIT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskgit.model.published.bert import BertBlock, check_heads
from maskgit.model.published.net import Beside, Factors
from maskgit.model.published.placed import PlacedHead, PlacedNet
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Repeats, Size

OUTER_EPS, EPS = 1e-12, 1e-5
"""Of the norms before and after the blocks, and of those in them."""


class ValeoMaskGIT(PlacedNet):
    """codes: (batch, h, w), labels (batch,) -> logits; each cell has a bias of its own.

    hidden: inner width of the feed-forward layers.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: Size = 768,
        depth: Repeats = 24,
        heads: Size = 16,
        hidden: Size = 3072,
    ) -> None:
        check_heads(dim, heads)
        super().__init__(locals(), dim=dim)
        self.codes = nn.Embedding(codebook_size + 1, dim)
        self.labels = nn.Embedding(num_classes + 1, dim)
        self.positions = nn.Parameter(torch.randn(self.num_cells + 1, dim) * 0.02)
        self.first = nn.Sequential(
            nn.LayerNorm(dim, eps=OUTER_EPS),
            nn.Linear(dim, dim),
            nn.GELU(),
            nn.LayerNorm(dim, eps=OUTER_EPS),
            nn.Linear(dim, dim),
        )
        self.blocks = nn.ModuleList(
            BertBlock(dim, hidden, eps=EPS, prenorm=True) for _ in range(depth)
        )
        self.last = nn.Sequential(
            nn.LayerNorm(dim, eps=OUTER_EPS),
            nn.Linear(dim, dim),
            nn.GELU(),
            nn.LayerNorm(dim, eps=OUTER_EPS),
        )
        self.to_logits = PlacedHead(dim, codebook_size, positions=self.num_cells)
        make_row_invariant(self)

    def cells(self, codes: Tensor) -> Tensor:
        """(batch, h, w) -> (batch, cells, dim)."""
        return self.codes(codes.flatten(1)) + self.positions[:-1]  # type: ignore[no-any-return]

    def by(self, labels: Tensor) -> Beside:
        """A token of the class, which has the last position."""
        tokens = (self.labels(labels) + self.positions[-1])[:, None]
        return Beside(tokens, tokens[:, :0])

    def start(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> the same shape."""
        return self.first(x)  # type: ignore[no-any-return]

    def finish(self, x: Tensor, factors: Factors) -> Tensor:
        """(n, dim) -> the same shape."""
        return self.last(x)  # type: ignore[no-any-return]
