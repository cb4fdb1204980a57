"""Group norm that leaves values as they lie and in their number format; statistics in float32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's own on CPUs and in compiled code; with `silu`, x * sigmoid(x) of what it gives.

    On accelerators torch's turns channels_last around and, under autocast, what is in bf16 into
    float32: both are twice the memory of the activations, and most of that of a tokenizer. Of the
    two steps only the input is kept for the backward pass, which computes the first one again.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, *, silu: bool = False
    ) -> None:
        super().__init__(num_groups, num_channels, eps)
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, channels, height, width) -> the same shape and layout."""
        if x.device.type == "cpu" or torch.compiler.is_compiling():
            found = super().forward(x)
            return F.silu(found) if self.silu else found
        kind = x.device.type
        is_cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return in_place_of(self, x.to(torch.get_autocast_dtype(kind)) if is_cast else x)


def in_place_of(norm: GroupNorm, x: Tensor) -> Tensor:
    """The norm in the format and layout of x, whose statistics the kernel sums in float32."""
    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    options = norm.num_groups, norm.eps, norm.silu
    return _Normalized.apply(x, weight, bias, *options)  # type: ignore[no-any-return]


def _as_it_lay(values: Tensor, x: Tensor) -> Tensor:
    """The values in the layout of x."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return values.contiguous(memory_format=torch.channels_last) if last else values


class _Normalized(torch.autograd.Function):
    """By torch's kernels, to whose backward pass autocast does not reach."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        sizes = (len(x), x.shape[1], x[0, 0].numel(), groups)
        args = (x.contiguous(), weight, bias, *sizes, eps)
        found, mean, rstd = torch.ops.aten.native_group_norm(*args)
        del args  # the turned images
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.sizes, ctx.eps, ctx.silu = sizes, eps, silu
        return _as_it_lay(torch.ops.aten.silu_(found) if silu else found, x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        [slope] = slopes
        if torch.is_grad_enabled():  # the gradient of this gradient is asked for
            found = F.group_norm(x, ctx.sizes[-1], weight, bias, ctx.eps)
            found = F.silu(found) if ctx.silu else found
            own = torch.autograd.grad(found, (x, weight, bias), slope, create_graph=True)
            return (*own, None, None, None)
        rows, slope = x.contiguous(), slope.contiguous()
        if ctx.silu:
            args = (rows, weight, bias, *ctx.sizes, ctx.eps)
            slope = torch.ops.aten.silu_backward(slope, torch.ops.aten.native_group_norm(*args)[0])
        of_x, *own = torch.ops.aten.native_group_norm_backward(
            slope, rows, mean, rstd, weight, *ctx.sizes, [True] * 3
        )
        return (_as_it_lay(of_x, x), *own, None, None, None)
