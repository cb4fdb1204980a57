"""Group norm that leaves values as they lie and in their number format; statistics in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's own on CPUs and in compiled code.

    On accelerators torch's turns channels_last around and, under autocast, what is in bf16 into
    float32: both are twice the memory of the activations, and most of that of a tokenizer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, channels, height, width) -> the same shape and layout."""
        if x.device.type == "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            return in_place_of(self, x.to(dtype))


def in_place_of(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """The norm in the format and layout of x, whose statistics the kernel sums in float32."""
    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    found = F.group_norm(x, norm.num_groups, weight, bias, norm.eps)
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return found.contiguous(memory_format=torch.channels_last) if last else found
