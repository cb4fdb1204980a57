"""UViT: the generator of TiTok-S-128 (arXiv:2406.07550; Apache-2.0), a U-ViT."""

from __future__ import annotations

from torch import Tensor, nn

from maskgit.model.published.bert import BertBlock, check_heads
from maskgit.model.published.class_token import ClassTokenNet
from maskgit.model.published.net import Factors
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Repeats, Size

EPS = 1e-5


class UViTBlock(BertBlock):
    """Pre-norm; `skip` maps the output of an early block, beside that of the one before."""

    def __init__(self, dim: int, hidden: int, *, keeps: bool = False, skips: bool = False) -> None:
        super().__init__(dim, hidden, eps=EPS, prenorm=True, qkv_bias=False)
        self.keeps = keeps
        self.skip = nn.Linear(2 * dim, dim) if skips else None


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
        dim: Size = 1024,
        depth: Repeats = 20,
        heads: Size = 16,
        hidden: Size = 4096,
    ) -> None:
        check_heads(dim, heads)
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
