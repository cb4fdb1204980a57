"""How published tokenizers turn latents into codes: the nearest of a table's rows, or signs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.quantizers.quantized import Quantized, check_range

MOST_DISTANCES = 2**26
"""Of cells to codes at once."""


def euclidean(cells: Tensor, rows: Tensor) -> Tensor:
    """(n, dim), (codes, dim) -> the squared distances, less what a cell's have in common."""
    return rows.square().sum(1) - 2 * cells @ rows.T


def dot(cells: Tensor, rows: Tensor) -> Tensor:
    """Less, the greater the inner product: what IBQ draws a code by (arXiv:2412.02692)."""
    return -cells @ rows.T


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": euclidean,
    "cosine": euclidean,  # of rows of length 1
    "dot": dot,
}


class Codebook(nn.Module):
    """A table with a row for each code; a cell's code is the row with the least distance.

    distance: an entry of DISTANCES; by "cosine" cells and rows have length 1, in the latents, too.
    """

    remedy = "another tokenizer: this one is as published"

    def __init__(self, codebook_size: int, dim: int, distance: str = "euclidean") -> None:
        super().__init__()
        self.codebook_size, self.distance = codebook_size, DISTANCES[distance]
        self.is_normalized = distance == "cosine"
        self.embedding = nn.Embedding(codebook_size, dim)

    @property
    def rows(self) -> Tensor:
        """(codebook_size, dim) float32, as latents hold them."""
        rows = self.embedding.weight.float()
        return F.normalize(rows, dim=1, eps=1e-12) if self.is_normalized else rows

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, h, w) -> Quantized, in float32."""
        rows, cells = self.rows, latents.float().movedim(1, -1).flatten(0, 2)
        if self.is_normalized:
            cells = F.normalize(cells, dim=1, eps=1e-12)
        parts = cells.split(max(1, MOST_DISTANCES // self.codebook_size))
        codes = torch.cat([self.distance(part, rows).argmin(1) for part in parts])
        codes = codes.view(len(latents), *latents.shape[2:])
        return Quantized(self.lookup(codes), codes, latents.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, h, w) -> latents: (batch, dim, h, w)."""
        check_range(codes, self.codebook_size)
        return F.embedding(codes, self.rows).movedim(-1, 1)


class Signs(nn.Module):
    """Lookup-free: bit c of a code says whether latent c is positive (arXiv:2310.05737).

    Bit 0 is the least significant. codes_per_cell: in how many codes the bits of a cell are cut,
    side by side, the low ones first (MaskBit's groups, arXiv:2409.16211).
    """

    remedy = Codebook.remedy

    def __init__(self, bits: int, codes_per_cell: int = 1) -> None:
        super().__init__()
        if bits % codes_per_cell:
            raise ValueError(f"{bits} bits cannot be cut into {codes_per_cell} equal codes")
        self.bits, self.codes_per_cell = bits // codes_per_cell, codes_per_cell
        self.codebook_size = 2**self.bits

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, bits, h, w) -> Quantized, codes (batch, h, w * codes_per_cell)."""
        signs = (latents > 0).long().unflatten(1, (self.codes_per_cell, self.bits))
        weights = 2 ** torch.arange(self.bits, device=latents.device)
        codes = (signs * weights[:, None, None]).sum(2).movedim(1, -1).flatten(2)
        return Quantized(self.lookup(codes).to(latents.dtype), codes, latents.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, h, w * codes_per_cell) -> +-1: (batch, bits, h, w)."""
        check_range(codes, self.codebook_size)
        places = torch.arange(self.bits, device=codes.device)
        bits = (codes.unflatten(2, (-1, self.codes_per_cell))[..., None] >> places) & 1
        return (2.0 * bits.flatten(3) - 1).movedim(-1, 1)
