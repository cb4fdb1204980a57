"""Pictures of images: grids with named rows, and pairs of originals and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from maskgit.data.pixels import to_pil

SMALLEST = 56
"""Images are enlarged by a whole factor until a side is at least this many pixels."""


def image_grid(
    images: Tensor,
    *,
    num_columns: int,
    row_names: Sequence[str] | None = None,
) -> Image.Image:
    """images: (n, channels, height, width) in [-1, 1] -> one picture, row by row.

    Small images are enlarged.
    """
    from torchvision.utils import make_grid

    zoom = max(1, -(-SMALLEST // images.shape[-1]))
    large = images.detach().float().cpu().repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
    gap = 4
    picture = to_pil(make_grid(large, nrow=num_columns, padding=gap, pad_value=1.0)).convert("RGB")
    if not row_names:
        return picture
    font = ImageFont.load_default(size=16)
    margin = gap + int(max(font.getlength(name) for name in row_names)) + gap
    named = Image.new("RGB", (picture.width + margin, picture.height), "white")
    named.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(named)
    for row, name in enumerate(row_names):
        middle = gap + row * (large.shape[-2] + gap) + large.shape[-2] // 2
        draw.text((margin - gap, middle), name, fill="black", font=font, anchor="rm")
    return named


@torch.no_grad()
def pairs(originals: Tensor, reconstructions: Tensor, num_columns: int = 10) -> Image.Image:
    """Originals (n, c, h, w) in [-1, 1] with their reconstructions underneath, in double rows."""
    num_columns, rows = min(num_columns, len(originals)), []
    for start in range(0, len(originals), num_columns):
        part = slice(start, start + num_columns)
        rows += [_filled(side[part], num_columns) for side in (originals, reconstructions)]
    names = ["original", "decoded"] * (len(rows) // 2)
    return image_grid(torch.cat(rows), num_columns=num_columns, row_names=names)


def _filled(row: Tensor, count: int) -> Tensor:
    """A row with white images up to so many."""
    return torch.cat((row, row.new_ones(count - len(row), *row.shape[1:])))
