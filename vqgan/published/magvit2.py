"""PublishedMagvit2: Open-MAGVIT2's tokenizers, whose codes are signs (arXiv:2409.04410).

The encoder is that of the other convolutional ones; the decoder's levels see the code itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.grids import GridTokenizer
from vqgan.normalization import GroupNorm
from vqgan.published.codebooks import Signs
from vqgan.published.convolutional import EPS, Encoder, Level, ResBlock, sequence


class AdaptiveNorm(nn.Module):
    """Group norm, scaled by a linear layer of the code's deviation over its cells, and shifted by
    one of its mean."""

    def __init__(self, width: int, bits: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.gamma, self.beta = nn.Linear(bits, width), nn.Linear(bits, width)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x: (batch, width, height, width), code: (batch, bits, h, w) -> the shape of x."""
        variance, mean = torch.var_mean(code.flatten(2), 2, correction=1)
        scale, shift = self.gamma((variance + EPS).sqrt()), self.beta(mean)
        normed = F.group_norm(x, self.groups, eps=EPS)
        return scale[..., None, None] * normed + shift[..., None, None]  # type: ignore[no-any-return]


class Unfold(nn.Module):
    """Twice the size: four pixels of each, row by row, by a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, h, w) -> (batch, width, 2 h, 2 w)."""
        pixels = self.conv(x).unflatten(1, (4, -1)).transpose(1, 2)  # (batch, width, 4, h, w)
        return F.pixel_shuffle(pixels.flatten(1, 2), 2)


class Decoder(nn.Module):
    """Codes as signs to images; level 0 is the finest."""

    def __init__(
        self,
        channels: int,
        bits: int,
        widths: Sequence[int],
        *,
        num_blocks: int,
        groups: int,
    ) -> None:
        super().__init__()
        last = widths[-1]
        self.conv_in = nn.Conv2d(bits, last, 3, padding=1)
        self.mid = nn.Sequential(
            *(ResBlock(last, last, groups, bias=False) for _ in range(num_blocks))
        )
        ins = [*widths[1:], last]
        self.adaptive = nn.ModuleList(AdaptiveNorm(width, bits, groups) for width in ins)
        self.level = nn.ModuleList(
            Level(*pair, num_blocks, groups, False, bias=False)
            for pair in zip(ins, widths, strict=True)
        )
        self.up = nn.ModuleList(Unfold(width) for width in widths[1:])
        self.norm_out = GroupNorm(groups, widths[0], eps=EPS, silu=True)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        """(batch, bits, h, w) of +-1 -> (batch, channels, f h, f w), unclamped."""
        x = self.mid(self.conv_in(code))
        for number in reversed(range(len(self.level))):
            x = self.level[number](self.adaptive[number](x, code))
            if number:
                x = self.up[number - 1](x)
        return self.conv_out(self.norm_out(x))  # type: ignore[no-any-return]


class PublishedMagvit2(GridTokenizer):
    """A tokenizer of 2^latent_dim codes (Apache-2.0).

    width, multipliers: channels of the first layer, and how many times as many each level has, the
    finest first. latent_dim: the bits of a code.
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        channels: int = 3,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        num_blocks: int = 4,
        latent_dim: int = 18,
        norm_groups: int = 32,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__(
            {"name": "magvit2", **config},
            image_size=image_size,
            channels=channels,
            downscale=2 ** (len(multipliers) - 1),
            elements=width * max(multipliers[:2]),
        )
        widths = [width * number for number in multipliers]
        shape: dict[str, Any] = {"num_blocks": num_blocks, "groups": norm_groups}
        encoder = Encoder(
            channels, latent_dim, width, widths,
            attention=(), middle_attention=False, downsampling="even", last_kernel=1, bias=False,
            **shape,
        )  # fmt: skip
        self.encoder = sequence(net=encoder)
        self.quantizer = Signs(latent_dim)
        self.decoder = sequence(net=Decoder(channels, latent_dim, widths, **shape))
