"""Bert: the post-norm transformer of TiTok's generators (arXiv:2406.07550; Apache-2.0)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.published.class_token import ClassTokenNet
from maskgit.model.published.net import Attend, Block, Factors
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Positive

EPS = 1e-12


class PostNormBlock(Block):
    """As in BERT (arXiv:1810.04805): each half is added to its input, and the sum normalised.

    approximate: of the GELU, as in torch: "none", or "tanh".
    """

    def __init__(
        self, dim: int, hidden: int, *, eps: float = EPS, approximate: str = "none"
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=eps) for _ in range(2))
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.approximate = approximate

    def mix(self, x: Tensor, factors: Factors, attend: Attend) -> Tensor:
        """x: (batch, tokens, dim)."""
        return self.norm1(x + self.out(attend(self.q(x), self.k(x), self.v(x))))  # type: ignore[no-any-return]

    def feed(self, x: Tensor, factors: Factors) -> Tensor:
        """x: (batch, tokens, dim), or (n, dim)."""
        hidden = F.gelu(self.up(x), approximate=self.approximate)
        return self.norm2(x + self.down(hidden))  # type: ignore[no-any-return]


class Bert(ClassTokenNet):
    """codes: (batch, h, w), labels (batch,) -> logits.

    hidden: inner width of the feed-forward layers.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: Positive = 768,
        depth: Positive = 24,
        heads: Positive = 16,
        hidden: Positive = 3072,
    ) -> None:
        super().__init__(codebook_size, grid, num_classes, dim, heads)
        self.config |= {"depth": depth, "hidden": hidden}
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.blocks = nn.ModuleList(PostNormBlock(dim, hidden) for _ in range(depth))
        self.to_logits = nn.Linear(dim, codebook_size)
        make_row_invariant(self)

    def start(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> the same."""
        return self.norm(x)  # type: ignore[no-any-return]
