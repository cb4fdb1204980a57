"""Codes as roundings: each number of a latent to one of a few levels."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from vqgan.late import late
from vqgan.quantizers.quantized import NumCodes, Quantized, check_range

with late("einx"):
    import vector_quantize_pytorch as vqp

MOST_CODES = 2**22


class FSQ(nn.Module):
    """Round each latent dimension to a few levels (arXiv:2309.15505): no codebook, no loss, no
    collapse."""

    remedy = "take fewer levels"

    def __init__(
        self,
        dim: int,
        *,
        levels: Annotated[tuple[NumCodes, ...], MinLen(1)] = (8, 6, 5),
    ) -> None:
        super().__init__()
        if math.prod(levels) > MOST_CODES:  # the library keeps a vector for each
            raise ValueError(
                f"fsq levels {list(levels)} are {math.prod(levels)} codes, {MOST_CODES} at most"
            )
        with torch.device("cpu"):  # the library asks for numbers, which the meta device has not
            self.fsq = vqp.FSQ(levels=list(levels), dim=dim, preserve_symmetry=2 in levels)
        self.codebook_size, self.code_levels = self.fsq.codebook_size, tuple(levels)

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized. `accumulate` changes nothing here."""
        with torch.autocast(latents.device.type, enabled=False):
            quantized, codes = self.fsq(latents.float())
        return Quantized(quantized, codes.long(), quantized.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        check_range(codes, self.codebook_size)
        return self.fsq.indices_to_codes(codes)
