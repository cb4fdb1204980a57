"""The nets of MaskBit (Weber et al., arXiv:2409.16211; Apache-2.0), with bits or tables."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.published.bert import BertBlock, check_heads
from maskgit.model.published.net import Beside, Factors
from maskgit.model.published.placed import PlacedHead, PlacedNet
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Repeats, Size, choose

EPS = 1e-12


class Bits(nn.Module):
    """Codes as their bits, +-1, the least significant first, and 0 where hidden; then one map.

    The bits of a cell's codes lie one after the other.
    """

    def __init__(self, codebook_size: int, groups: int, dim: int) -> None:
        super().__init__()
        self.bits = codebook_size.bit_length() - 1
        if codebook_size != 2**self.bits or not self.bits:
            raise ValueError(
                f"bits stand for 2, 4, 8, ... codes, not {codebook_size}: set embedding=tables"
            )
        self.proj = nn.Linear(self.bits * groups, dim)

    def vectors(self, codes: Tensor) -> Tensor:
        """(..., groups) in [0, codebook_size] -> (..., groups * bits)."""
        places = torch.arange(self.bits, device=codes.device)
        signs = 2 * ((codes[..., None] >> places) & 1) - 1
        return signs.masked_fill(codes[..., None] == 2**self.bits, 0).flatten(-2)

    def forward(self, codes: Tensor) -> Tensor:
        """(..., groups) -> (..., dim)."""
        return self.proj(self.vectors(codes).to(self.proj.weight.dtype))  # type: ignore[no-any-return]


class Tables(nn.Module):
    """The sum of a row for each of a cell's codes."""

    def __init__(self, codebook_size: int, groups: int, dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(codebook_size + 1, dim) for _ in range(groups))

    def forward(self, codes: Tensor) -> Tensor:
        """(..., groups) -> (..., dim)."""
        rows = [table(code) for table, code in zip(self.tables, codes.unbind(-1), strict=True)]
        return torch.stack(rows).sum(0)


EMBEDDINGS: dict[str, Callable[[int, int, int], nn.Module]] = {"bits": Bits, "tables": Tables}
"""What turns the codes of a cell into its token: LFQBert's, which is published, and Bert's."""


class MaskBit(PlacedNet):
    """codes: (batch, h, w * codes_per_cell), labels (batch,) -> logits.

    A token stands for the codes of a cell, each of which is hidden by itself. embedding: an entry
    of EMBEDDINGS; with "tables" each cell has a bias of its own, too. prenorm: of the blocks.
    hidden: inner width of the feed-forward layers.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        codes_per_cell: int = 1,
        dim: Size = 1024,
        depth: Repeats = 24,
        heads: Size = 16,
        hidden: Size = 4096,
        embedding: str = "bits",
        prenorm: bool = False,
    ) -> None:
        check_heads(dim, heads)
        super().__init__(locals(), dim=dim, codes_per_cell=codes_per_cell)
        self.codes = choose(EMBEDDINGS, embedding, "embedding")(codebook_size, codes_per_cell, dim)
        self.labels = nn.Embedding(num_classes + 1, dim)
        self.positions = nn.Parameter(torch.randn(self.num_cells + 1, dim) * 0.02)
        self.first_norm = nn.LayerNorm(dim, eps=EPS)
        self.blocks = nn.ModuleList(
            BertBlock(dim, hidden, eps=EPS, prenorm=prenorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=EPS) if prenorm else nn.Identity()
        self.last = nn.Linear(dim, dim)
        self.last_norm = nn.LayerNorm(dim, eps=EPS)
        positions = self.num_cells if embedding == "tables" else 1
        self.to_logits = PlacedHead(dim, codebook_size, codes_per_cell, positions)
        make_row_invariant(self)

    def cells(self, codes: Tensor) -> Tensor:
        """(batch, h, w * codes_per_cell) -> (batch, cells, dim)."""
        grouped = codes.flatten(1).unflatten(1, (self.num_cells, self.codes_per_cell))
        return self.codes(grouped) + self.positions[:-1]  # type: ignore[no-any-return]

    def by(self, labels: Tensor) -> Beside:
        """A token of the class, which has the last position."""
        tokens = (self.labels(labels) + self.positions[-1])[:, None]
        return Beside(tokens, tokens[:, :0])

    def start(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> the same shape."""
        return self.first_norm(x)  # type: ignore[no-any-return]

    def finish(self, x: Tensor, factors: Factors) -> Tensor:
        """(n, dim) -> the same shape."""
        return self.last_norm(F.gelu(self.last(self.norm(x))))  # type: ignore[no-any-return]
