"""Pictures of images: grids with named rows, and pairs of originals and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from maskgit.data.alpha import on_checkerboard
from maskgit.data.pixels import to_pil
from maskgit.plots import font_of

SMALLEST = 56
"""Images are enlarged by a whole factor until a side is at least this many pixels."""


def image_grid(
    images: Tensor,
    *,
    num_columns: int,
    row_names: Sequence[str] | None = None,
) -> Image.Image:
    """images: (n, channels, height, width) in [-1, 1] -> one picture, row by row.

    Small images are enlarged; transparent ones lie on a checkerboard.
    """
    zoom = max(1, -(-SMALLEST // images.shape[-1]))
    large = images.detach().float().cpu().repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
    gap = 4
    grid = _side_by_side(large, num_columns, gap)
    picture = to_pil(on_checkerboard(grid[None])[0]).convert("RGB")
    if not row_names:
        return picture
    words = [(_font(file), text) for file, text in map(font_of, row_names)]
    margin = gap + int(max(font.getlength(text) for font, text in words)) + gap
    named = Image.new("RGB", (picture.width + margin, picture.height), "white")
    named.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(named)
    for row, (font, text) in enumerate(words):
        middle = gap + row * (large.shape[-2] + gap) + large.shape[-2] // 2
        draw.text((margin - gap, middle), text, fill="black", font=font, anchor="rm")
    return named


def _font(file: Path | None) -> Any:
    return ImageFont.load_default(size=16) if file is None else ImageFont.truetype(file, 16)


def _side_by_side(images: Tensor, num_columns: int, gap: int) -> Tensor:
    """As torchvision's make_grid on white, whose import would take longer than to draw a grid."""
    if len(images) == 1:
        return images[0]
    columns = min(num_columns, len(images))
    rows = -(-len(images) // columns)
    high, wide = images.shape[-2] + gap, images.shape[-1] + gap
    grid = images.new_ones(images.shape[1], high * rows + gap, wide * columns + gap)
    for number, image in enumerate(images):
        top, left = high * (number // columns) + gap, wide * (number % columns) + gap
        grid[:, top : top + image.shape[-2], left : left + image.shape[-1]] = image
    return grid


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
