"""The tokenizer's convolutional halves: Encoder (images -> latents) and its mirror, Decoder.

Residual blocks with group norm and SiLU, as in VQGAN (Esser et al., arXiv:2012.09841). `patch_size`
p folds p x p pixels into channels before the first convolution (space to depth), which saves most
of the work at full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqgan.normalization import GroupNorm


def _norm(channels: int, silu: bool = True) -> GroupNorm:
    """Up to 32 groups, that divide the channels and leave each at least 4; and SiLU."""
    groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    return GroupNorm(groups, channels, eps=1e-6, silu=silu)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); where widths differ, a 1x1 conv on x."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(in_channels), _norm(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = (
            nn.Conv2d(in_channels, out_channels, 1)
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, in_channels, height, width) -> (batch, out_channels, height, width)."""
        hidden = self.conv1(self.norm1(x))
        return self.skip(x) + self.conv2(self.norm2(hidden))


class AttnBlock(nn.Module):
    """Single-head self-attention over all positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels, silu=False)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, channels, height, width) -> the same shape."""
        qkv = rearrange(self.to_qkv(self.norm(x)), "b (three c) h w -> three b 1 (h w) c", three=3)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0))
        return x + self.to_out(rearrange(attended, "b 1 (h w) c -> b c h w", h=x.shape[-2]))


class Upsample(nn.Module):
    """Twice the size: nearest neighbour, then a convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, in_channels, height, width) -> (batch, out_channels, 2 height, 2 width)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _run(layers: nn.Sequential, x: Tensor, checkpointing: bool) -> Tensor:
    """layers(x); with checkpointing, the backward pass computes the inside of a block again."""
    if not (checkpointing and torch.is_grad_enabled()):
        return layers(x)
    for layer in layers:
        x = (
            checkpoint(layer, x, use_reentrant=False)
            if isinstance(layer, ResBlock | AttnBlock)
            else layer(x)
        )
    return x


def _bottom(channels: int, num_blocks: int, attention: bool) -> list[nn.Module]:
    """The blocks at the lowest resolution, attention in their middle."""
    blocks: list[nn.Module] = [ResBlock(channels, channels) for _ in range(num_blocks)]
    if attention:
        blocks.insert((num_blocks + 1) // 2, AttnBlock(channels))
    return blocks


class Encoder(nn.Module):
    """Images to latents.

    `widths` are the channels at each resolution, from full size (after the patch) down.
    """

    def __init__(
        self,
        in_channels: int,
        latent_dim: int,
        *,
        widths: Sequence[int] = (64, 128, 128),
        num_blocks: int = 2,
        patch_size: int = 1,
        attention: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(patch_size)] if patch_size > 1 else []
        layers.append(nn.Conv2d(in_channels * patch_size**2, widths[0], 3, padding=1))
        for width, wider in pairwise(widths):
            layers += [ResBlock(width, width) for _ in range(num_blocks)]
            layers.append(nn.Conv2d(width, wider, 4, stride=2, padding=1))
        layers += _bottom(widths[-1], num_blocks, attention)
        layers += [
            _norm(widths[-1]),
            nn.Identity(),
            nn.Conv2d(widths[-1], latent_dim, 3, padding=1),
        ]
        self.layers = nn.Sequential(*layers)
        self.checkpointing = checkpointing

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, f h, f w) -> latents: (batch, latent_dim, h, w)."""
        return _run(self.layers, images, self.checkpointing)


class Decoder(nn.Module):
    """Latents to images: the Encoder's mirror, with a block more a resolution, as in VQGAN."""

    def __init__(
        self,
        out_channels: int,
        latent_dim: int,
        *,
        widths: Sequence[int] = (64, 128, 128),
        num_blocks: int = 2,
        patch_size: int = 1,
        attention: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], 3, padding=1)]
        layers += _bottom(widths[-1], num_blocks + 1, attention)
        for wider, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers.append(Upsample(wider, width))
            layers += [ResBlock(width, width) for _ in range(num_blocks + 1)]
        layers += [_norm(widths[0]), nn.Identity()]
        self.layers = nn.Sequential(*layers)
        self.checkpointing = checkpointing
        self.to_pixels = nn.Conv2d(widths[0], out_channels * patch_size**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(patch_size) if patch_size > 1 else nn.Identity()

    def forward(self, latents: Tensor) -> Tensor:
        """latents: (batch, latent_dim, h, w) -> images: (batch, channels, f h, f w), unclamped."""
        return self.unfold(self.to_pixels(_run(self.layers, latents, self.checkpointing)))
