"""What every quantizer returns, and what all of them check."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
import torch.distributed as dist
from annotated_types import Ge, Le
from torch import Tensor

NumCodes = Annotated[int, Ge(2), Le(2**20)]
"""A codebook_size: one code says nothing, and more than these no header may ask for."""


class Quantized(NamedTuple):
    """What a quantizer returns."""

    latents: Tensor  # (batch, dim, height, width), with a straight-through gradient
    codes: Tensor  # (batch, height, width * codes_per_cell) int64 in [0, codebook_size)
    loss: Tensor  # scalar, zero in eval mode


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def check_range(codes: Tensor, codebook_size: int) -> None:
    """The library decodes a code outside the codebook silently; we do not.

    ValueError, or on an accelerator, which is not waited for, its own failed assertion.
    """
    wanted = f"codes must lie in [0, {codebook_size})"
    if codes.device.type != "cpu":
        torch._assert_async(((codes >= 0) & (codes < codebook_size)).all(), wanted)
    elif codes.numel() and (codes.min() < 0 or codes.max() >= codebook_size):
        raise ValueError(
            f"{wanted}, found {codes.min().item()} to {codes.max().item()}"
            " (is a cell still hidden?)"
        )
