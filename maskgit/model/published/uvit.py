"""UViT: the generator of TiTok-S-128 (arXiv:2406.07550; Apache-2.0), a U-ViT."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.published.class_token import ClassTokenNet
from maskgit.model.published.net import Attend, Block, Factors
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Positive

EPS = 1e-5


class UViTBlock(Block):
    """Pre-norm; `skip` maps the output of an early block, beside that of the one before."""

    def __init__(self, dim: int, hidden: int, *, keeps: bool = False, skips: bool = False) -> None:
        super().__init__()
        self.keeps = keeps
        self.skip = nn.Linear(2 * dim, dim) if skips else None
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=EPS) for _ in range(2))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def mix(self, x: Tensor, factors: Factors, attend: Attend) -> Tensor:
        """x: (batch, tokens, dim)."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        return x + self.proj(attend(q, k, v))  # type: ignore[no-any-return]

    def feed(self, x: Tensor, factors: Factors) -> Tensor:
        """x: (batch, tokens, dim), or (n, dim)."""
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class UViT(ClassTokenNet):
    """codes: (batch, h, w), labels (batch,) -> logits; the first half of the blocks is met again by
    the second, the last of them first (Bao et al., arXiv:2209.12152).

    depth: blocks, without the one in the middle; an even number.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: Positive = 1024,
        depth: Positive = 20,
        heads: Positive = 16,
        hidden: Positive = 4096,
    ) -> None:
        super().__init__(codebook_size, grid, num_classes, dim, heads)
        self.config |= {"depth": depth, "hidden": hidden}
        if depth % 2:
            raise ValueError(f"a U-ViT has as many blocks before its middle as after, not {depth}")
        half = depth // 2
        kinds = [{"keeps": True}] * half + [{}] + [{"skips": True}] * half
        self.blocks = nn.ModuleList(UViTBlock(dim, hidden, **kind) for kind in kinds)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.to_logits = nn.Linear(dim, codebook_size)
        make_row_invariant(self)

    def finish(self, x: Tensor, factors: Factors) -> Tensor:
        """(n, dim) -> the same."""
        return self.norm(x)  # type: ignore[no-any-return]
