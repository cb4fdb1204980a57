"""Vectors of codes that are several small numbers in one: a number's value is learned once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

with warnings.catch_warnings():  # its import still calls torch.jit.script, deprecated in torch 2.14
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")


OWN_SHARE = 0.3
"""Of a code's vector at the start, where the rest is shared (SharedLevels)."""


class SharedLevels(nn.Module):
    """The vectors of codes that are several small numbers in one (levels of FSQ, bits of LFQ and
    BSQ): sums of a vector for each number's value, and one of the code's own.

    So a rare code knows what the others of its values have learned: 718 steps on Fashion-MNIST
    reach 5.87 bits a code, 766 with vectors of their own only 6.04 (two minutes on 2 cores). Weber
    et al. (MaskBit, arXiv:2409.16211) embed bits alone.
    """

    def __init__(self, levels: Sequence[int], own: Tensor) -> None:
        """own: (at least prod(levels), dim), the vectors as they would start; they start at the
        same scale."""
        super().__init__()
        self.levels = tuple(levels)
        scale = own.std() * ((1 - OWN_SHARE**2) / len(self.levels)) ** 0.5
        self.values = nn.Parameter(torch.randn(sum(self.levels), own.shape[1]) * scale)

    def forward(self, own: Tensor) -> Tensor:
        """(num_vectors, dim) -> the same; vectors beyond the codes', such as the mask token's,
        stay."""
        table, *others = self.values.split(self.levels)
        for values in others:  # from the least significant number on
            table = (values[:, None] + table).flatten(0, 1)
        return own + F.pad(table, (0, 0, 0, len(own) - len(table)))


def share_levels(layer: nn.Module, codebook_size: int, levels: Sequence[int]) -> None:
    """Let the weight of a layer, one vector a code, be a sum of SharedLevels."""
    if math.prod(levels) != codebook_size:
        raise ValueError(
            f"{codebook_size} codes are not the {math.prod(levels)} of the levels {list(levels)}"
        )
    own = cast(nn.Parameter, layer.weight)
    parametrize.register_parametrization(layer, "weight", SharedLevels(levels, own.detach()))
    with torch.no_grad():
        layer.parametrizations["weight"].original[:codebook_size] *= OWN_SHARE  # type: ignore[union-attr,index]
