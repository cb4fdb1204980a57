"""PublishedVQGAN: the convolutional tokenizers of taming-transformers, LlamaGen, MaskGIT, MaskBit
and IBQ, which differ in a few options.

Own code, by the formulas of their papers and files (VQGAN, arXiv:2012.09841; MaskGIT,
arXiv:2202.04200; LlamaGen, arXiv:2406.06525).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.grids import GridTokenizer
from vqgan.normalization import GroupNorm
from vqgan.published.codebooks import Codebook, Signs

Shortcut = Literal["input", "output"]
Downsampling = Literal["corner", "even", "pool"]
EPS = 1e-6
"""Of all norms of published convolutional tokenizers."""


class ResBlock(nn.Module):
    """h + x, h = conv2(silu(norm2(conv1(silu(norm1(x)))))).

    Where the widths differ, a 1x1 convolution of x stands for x (shortcut="input": taming), or one
    of h (shortcut="output": MaskGIT).
    """

    def __init__(
        self, width: int, out: int, groups: int, *, bias: bool = True, shortcut: Shortcut = "input"
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, width, eps=EPS, silu=True)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=bias)
        self.norm2 = GroupNorm(groups, out, eps=EPS, silu=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=bias)
        self.shortcut = shortcut
        self.nin_shortcut = None
        if width != out:
            source = width if shortcut == "input" else out
            self.nin_shortcut = nn.Conv2d(source, out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, width, height, width) -> (batch, out, height, width)."""
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        if self.nin_shortcut is not None:
            x = self.nin_shortcut(x if self.shortcut == "input" else hidden)
        return hidden + x  # type: ignore[no-any-return]


class AttnBlock(nn.Module):
    """Self-attention of one head over all positions, added to its input."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, width, eps=EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, width, height, width) -> the same shape."""
        normed = self.norm(x)
        q, k, v = (
            layer(normed).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v)
        )
        found = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj_out(found.transpose(1, 2).unflatten(2, x.shape[2:]))  # type: ignore[no-any-return]


class Down(nn.Module):
    """Half the size: by a 3x3 convolution with one more row and column at the end ("corner") or on
    every side ("even"), or by means of 2x2 ("pool")."""

    def __init__(self, width: int, how: Downsampling) -> None:
        super().__init__()
        self.how = how
        padding = 1 if how == "even" else 0
        self.conv = None if how == "pool" else nn.Conv2d(width, width, 3, 2, padding)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, 2 h, 2 w) -> (batch, width, h, w)."""
        if self.conv is None:
            return F.avg_pool2d(x, 2)
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.how == "corner" else x)  # type: ignore[no-any-return]


class Up(nn.Module):
    """Twice the size: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, h, w) -> (batch, width, 2 h, 2 w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention if there is any."""

    def __init__(
        self, width: int, out: int, count: int, groups: int, attention: bool, **block: Any
    ) -> None:
        super().__init__()
        widths = [width, *[out] * count]
        self.block = nn.ModuleList(ResBlock(*pair, groups, **block) for pair in pairwise(widths))
        self.attn = nn.ModuleList(AttnBlock(out, groups) for _ in range(count if attention else 0))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, h, w) -> (batch, out, h, w)."""
        for number, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        return x


def _middle(width: int, count: int, groups: int, attention: bool, **block: Any) -> nn.Sequential:
    """Two blocks with attention between them, or `count` blocks."""
    blocks: list[nn.Module] = [
        ResBlock(width, width, groups, **block) for _ in range(2 if attention else count)
    ]
    if attention:
        blocks.insert(1, AttnBlock(width, groups))
    return nn.Sequential(*blocks)


class Encoder(nn.Module):
    """Images to latents; width: of what the first level takes; attention: the levels that have it,
    0 being the finest."""

    def __init__(
        self,
        channels: int,
        latent_dim: int,
        width: int,
        widths: Sequence[int],
        *,
        num_blocks: int,
        groups: int,
        attention: Sequence[int],
        middle_attention: bool,
        downsampling: Downsampling,
        last_kernel: int,
        **block: Any,
    ) -> None:
        super().__init__()
        first_bias = block.get("bias", True)
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1, bias=first_bias)
        ins = [width, *widths]
        self.level = nn.ModuleList(
            Level(*pair, num_blocks, groups, number in attention, **block)
            for number, pair in enumerate(pairwise(ins))
        )
        self.down = nn.ModuleList(Down(width, downsampling) for width in widths[:-1])
        self.mid = _middle(widths[-1], num_blocks, groups, middle_attention, **block)
        self.norm_out = GroupNorm(groups, widths[-1], eps=EPS, silu=True)
        self.conv_out = nn.Conv2d(widths[-1], latent_dim, last_kernel, padding=last_kernel // 2)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, f h, f w) -> (batch, latent_dim, h, w)."""
        x = self.conv_in(images)
        for number, level in enumerate(self.level):
            x = level(x)
            if number < len(self.down):
                x = self.down[number](x)
        return self.conv_out(self.norm_out(self.mid(x)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Latents to images; level 0 is the finest here too, so it runs from the last to the first."""

    def __init__(
        self,
        channels: int,
        latent_dim: int,
        widths: Sequence[int],
        *,
        num_blocks: int,
        middle_blocks: int,
        groups: int,
        attention: Sequence[int],
        middle_attention: bool,
        **block: Any,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latent_dim, widths[-1], 3, padding=1)
        self.mid = _middle(widths[-1], middle_blocks, groups, middle_attention, **block)
        ins = [*widths[1:], widths[-1]]
        self.level = nn.ModuleList(
            Level(*pair, num_blocks, groups, number in attention, **block)
            for number, pair in enumerate(zip(ins, widths, strict=True))
        )
        self.up = nn.ModuleList(Up(width) for width in widths[1:])
        self.norm_out = GroupNorm(groups, widths[0], eps=EPS, silu=True)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(batch, latent_dim, h, w) -> (batch, channels, f h, f w), unclamped."""
        x = self.mid(self.conv_in(latents))
        for number in reversed(range(len(self.level))):
            x = self.level[number](x)
            if number:
                x = self.up[number - 1](x)
        return self.conv_out(self.norm_out(x))  # type: ignore[no-any-return]


class UnitRange(nn.Module):
    """Images in [-1, 1] to and from those in [0, 1], which some nets take and give."""

    def __init__(self, inward: bool) -> None:
        super().__init__()
        self.inward = inward

    def forward(self, images: Tensor) -> Tensor:
        """The same shape."""
        return (images + 1) / 2 if self.inward else images * 2 - 1


def sequence(**layers: nn.Module | None) -> nn.Sequential:
    """Those that are there, under their names."""
    return nn.Sequential(OrderedDict((k, v) for k, v in layers.items() if v is not None))


class PublishedVQGAN(GridTokenizer):
    """A convolutional tokenizer as published (MIT and Apache-2.0 projects; FORMATS in the sign).

    width, multipliers: channels of the first layer, and how many times as many each level has, the
    finest first.
    code_dim: of a code's row, where it is another than latent_dim, with 1x1 convolutions between.
    distance: "signs", or an entry of codebooks.DISTANCES. unit_range: the net itself takes and
    gives images in [0, 1]; `encode` and `decode` have [-1, 1] all the same.
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        channels: int = 3,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        num_blocks: int = 2,
        decoder_blocks: int = 3,
        latent_dim: int = 256,
        code_dim: int | None = None,
        codebook_size: int = 1024,
        codes_per_cell: int = 1,
        distance: str = "euclidean",
        norm_groups: int = 32,
        attention: Sequence[int] = (),
        decoder_attention: Sequence[int] | None = None,
        middle_attention: bool = False,
        bias: bool = True,
        shortcut: Shortcut = "input",
        downsampling: Downsampling = "corner",
        last_kernel: int = 3,
        unit_range: bool = False,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__(
            {"name": "vqgan", **config},
            image_size=image_size,
            channels=channels,
            downscale=2 ** (len(multipliers) - 1),
            elements=width * max(multipliers[:2]),
        )
        widths = [width * number for number in multipliers]
        common: dict[str, Any] = {
            "groups": norm_groups, "middle_attention": middle_attention, "bias": bias,
            "shortcut": shortcut,
        }  # fmt: skip
        encoder = Encoder(
            channels, latent_dim, width, widths,
            num_blocks=num_blocks, attention=attention, downsampling=downsampling,
            last_kernel=last_kernel, **common,
        )  # fmt: skip
        decoder = Decoder(
            channels, latent_dim, widths,
            num_blocks=decoder_blocks, middle_blocks=num_blocks,
            attention=attention if decoder_attention is None else decoder_attention, **common,
        )  # fmt: skip
        before = after = None
        if code_dim is not None:
            before, after = nn.Conv2d(latent_dim, code_dim, 1), nn.Conv2d(code_dim, latent_dim, 1)
        into, out = (UnitRange(inward) if unit_range else None for inward in (True, False))
        self.encoder = sequence(range=into, net=encoder, quant_conv=before)
        self.decoder = sequence(post_quant_conv=after, net=decoder, range=out)
        if distance == "signs":
            self.quantizer = Signs(latent_dim, codes_per_cell)
        else:
            self.quantizer = Codebook(codebook_size, code_dim or latent_dim, distance)
