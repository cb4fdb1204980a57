"""TiTokBert: the post-norm transformer of TiTok's generators (arXiv:2406.07550; Apache-2.0)."""

from __future__ import annotations

from torch import Tensor, nn

from maskgit.model.published.bert import BertBlock, check_heads
from maskgit.model.published.class_token import ClassTokenNet
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Repeats, Size

EPS = 1e-12


class TiTokBert(ClassTokenNet):
    """codes: (batch, h, w), labels (batch,) -> logits.

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
        super().__init__(codebook_size, grid, num_classes, dim, heads)
        self.config |= {"depth": depth, "hidden": hidden}
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.blocks = nn.ModuleList(BertBlock(dim, hidden, eps=EPS) for _ in range(depth))
        self.to_logits = nn.Linear(dim, codebook_size)
        make_row_invariant(self)

    def start(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> the same."""
        return self.norm(x)  # type: ignore[no-any-return]
