"""TiTok: images as a few codes in a row, which have no places (Yu et al., arXiv:2406.07550).

Own code, by the formulas of the paper and of its files (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.grids import NO_PLACES, GridTokenizer
from vqgan.published.codebooks import Codebook
from vqgan.published.convolutional import Decoder, UnitRange, sequence

EPS = 1e-5


class Layer(nn.Module):
    """Pre-norm attention, then a feed-forward layer four times as wide."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=EPS) for _ in range(2))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, tokens, dim) -> the same shape."""
        sides = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = sides.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, dim_head)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A ViT (arXiv:2010.11929) over a class token, the patches of an image and a row of latents."""

    def __init__(self, patches: int, num_latents: int, *, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} channels do not divide into {heads} heads")
        self.class_token = nn.Parameter(torch.randn(1, dim) * dim**-0.5)
        self.positions = nn.Parameter(torch.randn(patches + 1, dim) * dim**-0.5)
        self.latent_positions = nn.Parameter(torch.randn(num_latents, dim) * dim**-0.5)
        self.norm_in, self.norm_out = (nn.LayerNorm(dim, eps=EPS) for _ in range(2))
        self.layers = nn.Sequential(*(Layer(dim, heads) for _ in range(depth)))

    def through(self, patches: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, patches, dim), (batch, latents, dim) -> what becomes of both, not normalised."""
        token = self.class_token.expand(len(patches), 1, -1)
        x = torch.cat((token, patches), 1) + self.positions
        x = self.layers(self.norm_in(torch.cat((x, latents + self.latent_positions), 1)))
        return x[:, 1 : len(self.positions)], x[:, len(self.positions) :]


class ToLatents(Transformer):
    """Images to a row of latents.

    scrambled: the memory of (batch, latents, dim) is read as (batch, dim, latents), as the first
    models were trained.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        patch: int,
        num_latents: int,
        code_dim: int,
        scrambled: bool,
        *,
        dim: int,
        **vit: int,
    ) -> None:
        super().__init__(side * side, num_latents, dim=dim, **vit)
        self.scrambled = scrambled
        self.patch = nn.Conv2d(channels, dim, patch, patch)
        self.latents = nn.Parameter(torch.randn(num_latents, dim) * dim**-0.5)
        self.to_codes = nn.Conv2d(dim, code_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, code_dim, 1, latents)."""
        patches = self.patch(images).flatten(2).transpose(1, 2)
        _, x = self.through(patches, self.latents.expand(len(images), -1, -1))
        x = self.norm_out(x)
        x = x.reshape(len(x), x.shape[2], -1) if self.scrambled else x.transpose(1, 2)
        return self.to_codes(x[:, :, None])  # type: ignore[no-any-return]


class FromLatents(Transformer):
    """A row of latents to a feature map (batch, dim, side, side)."""

    def __init__(self, side: int, num_latents: int, code_dim: int, *, dim: int, **vit: int) -> None:
        super().__init__(side * side, num_latents, dim=dim, **vit)
        self.side = side
        self.from_codes = nn.Linear(code_dim, dim)
        self.blank = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)

    def forward(self, latents: Tensor) -> Tensor:
        """(batch, code_dim, 1, latents) -> (batch, dim, side, side)."""
        rows = self.from_codes(latents.flatten(2).transpose(1, 2))
        x, _ = self.through(self.blank.expand(len(rows), self.side**2, -1), rows)
        return self.norm_out(x).transpose(1, 2).unflatten(2, (self.side, self.side))


class ExpectedRows(nn.Module):
    """A feature map to the mean row of a table of codes, by their probabilities."""

    def __init__(self, dim: int, codes: int, code_dim: int) -> None:
        super().__init__()
        self.hidden, self.logits = nn.Conv2d(dim, 2 * dim, 1), nn.Conv2d(2 * dim, codes, 1)
        self.embedding = nn.Embedding(codes, code_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim, h, w) -> (batch, code_dim, h, w)."""
        weights = self.logits(self.hidden(x).tanh()).softmax(1)
        return (weights.movedim(1, -1) @ self.embedding.weight).movedim(-1, 1)


class Unfolded(nn.Module):
    """A feature map to the pixels of each patch, then a 3x3 convolution."""

    def __init__(self, dim: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        self.fold = nn.Conv2d(dim, patch * patch * channels, 1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim, h, w) -> (batch, channels, patch h, patch w)."""
        parts = self.fold(x).unflatten(1, (self.patch, self.patch, self.channels))
        pixels = parts.permute(0, 3, 4, 1, 5, 2)  # (batch, channels, h, patch, w, patch)
        return self.conv(pixels.flatten(4).flatten(2, 3))  # type: ignore[no-any-return]


VIT_LARGE = {"dim": 1024, "depth": 24, "heads": 16}
MASKGIT_DECODER = {
    "codes": 1024, "code_dim": 256, "widths": (128, 128, 256, 256, 512), "num_blocks": 2,
    "norm_groups": 32,
}  # fmt: skip


def pixel_decoder(
    dim: int,
    channels: int,
    *,
    codes: int,
    code_dim: int,
    widths: Sequence[int],
    num_blocks: int,
    norm_groups: int,
) -> nn.Sequential:
    """(batch, dim, h, w) -> images, by the decoder of MaskGIT's VQGAN and a mean of its codes."""
    net = Decoder(
        channels, code_dim, widths,
        num_blocks=num_blocks, middle_blocks=num_blocks, groups=norm_groups, attention=(),
        middle_attention=False, bias=False, shortcut="output",
    )  # fmt: skip
    return sequence(codes=ExpectedRows(dim, codes, code_dim), net=net)


class TiTok(GridTokenizer):
    """num_codes codes of an image, a grid of 1 x num_codes: each may change every pixel.

    encoder, decoder: {dim, depth, heads} of the ViTs. patch: pixels of a patch, decoder_patch: what
    the decoder draws of each of its patches. pixels: of the first models, options of
    `pixel_decoder`; without them patches are drawn by one linear layer. distance: an entry of
    codebooks.DISTANCES.
    """

    has_places = False

    def __init__(
        self,
        *,
        image_size: int = 256,
        channels: int = 3,
        patch: int = 16,
        decoder_patch: int = 16,
        num_codes: int = 32,
        codebook_size: int = 4096,
        code_dim: int = 12,
        distance: str = "cosine",
        encoder: Mapping[str, int] = VIT_LARGE,
        decoder: Mapping[str, int] = VIT_LARGE,
        pixels: Mapping[str, Any] | None = MASKGIT_DECODER,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        if image_size % patch or image_size % decoder_patch:
            raise ValueError(f"images of {image_size} pixels do not divide into its patches")
        self.num_codes = num_codes
        side, drawn = image_size // patch, image_size // decoder_patch
        tokens = 4 * max(side * side * encoder["dim"], drawn * drawn * decoder["dim"])
        super().__init__(
            {"name": "titok", **config},
            image_size=image_size,
            channels=channels,
            downscale=image_size,
            elements=max(tokens / image_size**2, max(pixels["widths"][:2]) if pixels else 0),
        )
        to_latents = ToLatents(
            channels, side, patch, num_codes, code_dim, pixels is not None, **encoder
        )
        from_latents = FromLatents(drawn, num_codes, code_dim, **decoder)
        width = decoder["dim"]
        draw = (
            Unfolded(width, channels, decoder_patch)
            if pixels is None
            else pixel_decoder(width, channels, **pixels)
        )
        self.encoder = sequence(range=UnitRange(True), net=to_latents)
        self.quantizer = Codebook(codebook_size, code_dim, distance)
        self.decoder = sequence(net=from_latents, draw=draw, range=UnitRange(False))

    def check_size(self, height: int, width: int) -> None:
        """ValueError for images of another size than its own."""
        if (height, width) != (self.image_size, self.image_size):
            size = f"{self.image_size}x{self.image_size}"
            raise ValueError(
                f"this tokenizer knows images of {size} pixels only, not {height}x{width}"
            )

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(1, num_codes); ValueError for images of another size."""
        self.check_size(height, width)
        return 1, self.num_codes

    def size_of(self, grid: Sequence[int]) -> tuple[int, int]:
        """(height, width) of its images; ValueError for other grids than theirs."""
        if tuple(grid) != (1, self.num_codes):
            raise ValueError(
                f"this tokenizer has 1x{self.num_codes} codes for an image, not {grid[0]}x{grid[1]}"
            )
        return self.image_size, self.image_size

    def codes_of(self, pixels: Tensor) -> Tensor:
        """ValueError: none of the codes is that of some pixels."""
        raise ValueError(NO_PLACES)

    def pixels_of(self, codes: Tensor) -> Tensor:
        """Bool (..., 1, num_codes) -> bool (..., height, width), all False: none is of one code."""
        return codes.new_zeros(*codes.shape[:-2], self.image_size, self.image_size)
