"""Group norm that keeps the memory format and the dtype of its values, with float32 statistics.

PyTorch's own makes rows of channels_last images on accelerators, and float32 of bf16 under autocast
(and keeps that for the backward pass): of a tokenizer's training memory 40 %.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

AT_ONCE = 2**25
"""Numbers whose gradient is computed at once: in float32, several times over."""


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm, and with `silu` x * sigmoid(x) of what it gives; same weights, same names.

    On CPUs it is PyTorch's to the last bit, which is quicker there, and keeps both.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, *, silu: bool = False
    ) -> None:
        super().__init__(num_groups, num_channels, eps)
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, channels, height, width), also in bf16 or fp16 -> the same."""
        if x.device.type != "cpu":
            return self.lean(x)
        found = super().forward(x)
        return F.silu(found) if self.silu else found

    def lean(self, x: Tensor) -> Tensor:
        """As `forward`, on any device: the values' dtype and memory format stay."""
        return _Normalised.apply(  # type: ignore[no-any-return]
            x, self.weight, self.bias, self.num_groups, self.eps, self.silu
        )


def _native(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """The same by PyTorch, in float32: what can be differentiated again."""
    found = F.group_norm(x.float(), groups, weight.float(), bias.float(), eps)
    return (F.silu(found) if silu else found).to(x.dtype)


def _group_means(values: Tensor, groups: int) -> Tensor:
    """(batch, channels) -> the same shape: of each channel its group's mean."""
    means = values.unflatten(1, (groups, -1)).mean(2, keepdim=True)
    return means.expand(-1, -1, values.shape[1] // groups).flatten(1)


def _statistics(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of each channel's group, float32 (batch, channels)."""
    size = x[0, 0].numel()
    sums = x.sum((2, 3), dtype=torch.float32)
    squares = torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float32).square()
    mean = _group_means(sums / size, groups)
    variance = _group_means(squares / size, groups) - mean.square()
    return mean, (variance.clamp_min(0) + eps).rsqrt()


def _affine(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """x * scale + shift, these (batch, channels) float32, rounded once."""
    out = torch.empty_like(x, dtype=dtype)
    return torch.addcmul(shift[..., None, None], x, scale[..., None, None], out=out)


class _Normalised(torch.autograd.Function):
    """Keeps x as it is, and two numbers a channel, for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        mean, rstd = _statistics(x, groups, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.options = groups, eps, silu
        scale = weight.float() * rstd
        found = _affine(x, scale, bias.float() - mean * scale, x.dtype)
        return F.silu(found, inplace=True) if silu else found

    @staticmethod
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias, mean, rstd = ctx.saved_tensors  # type: ignore[attr-defined]
        options = ctx.options  # type: ignore[attr-defined]
        if torch.is_grad_enabled():  # the gradient of a gradient is asked for
            found = _native(x, weight, bias, *options)
            slopes = torch.autograd.grad(found, (x, weight, bias), slope, create_graph=True)
        else:
            slopes = _slopes(x, weight, bias, mean, rstd, slope, *options)
        return (*slopes, None, None, None)


def _slopes(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    slope: Tensor,
    groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias, whose sums are in float32; a few images at a time."""
    gain, found, sums = weight.float(), torch.empty_like(x), []
    some = max(1, AT_ONCE // x[0].numel())
    for start in range(0, len(x), some):
        one = slice(start, start + some)
        own = x[one], mean[one], rstd[one], slope[one]
        part = _slopes_of_some(*own, gain, bias.float() if silu else None, groups)
        found[one] = part[0]
        sums.append(part[1:])
    of_weight, of_bias = (torch.cat(side).sum(0) for side in zip(*sums, strict=True))
    return found, of_weight.to(weight), of_bias.to(bias)


def _slopes_of_some(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    slope: Tensor,
    gain: Tensor,
    bias: Tensor | None,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of x, and for each image (batch, channels) of the weight and the bias, all in float32.

    bias: where SiLU follows.
    """
    scale = gain * rstd
    if bias is not None:
        before = _affine(x, scale, bias - mean * scale, torch.float32)
        slope = torch.ops.aten.silu_backward(slope.float(), before)
        del before
    sums = slope.sum((2, 3), dtype=torch.float32)
    products = torch.mul(slope, x, out=torch.empty_like(x, dtype=torch.float32)).sum((2, 3))
    products = rstd * (products - mean * sums)  # of the slope and the normalised x
    size = x[0, 0].numel()
    along = -rstd.square() * _group_means(gain * products, groups) / size
    shift = -rstd * _group_means(gain * sums, groups) / size - along * mean
    found = _affine(x, along, shift, torch.float32)
    return found.addcmul_(slope, scale[..., None, None]), products, sums
