"""A sampler at work, round by round: as a strip, a moving picture, or maps of confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from maskgit.data.pixels import save_png
from maskgit.pictures import image_grid
from maskgit.pipeline.pipeline import Pipeline
from maskgit.plots import heat_maps
from vqgan.files import replacing

SECONDS, LAST_SECONDS = 0.3, 2.0
"""How long a round stands in a moving picture, and how long the finished grid."""


@dataclass(frozen=True)
class Views:
    """Which pictures of a sampler at work are wanted, and where."""

    strip: Path | None = None
    gif: Path | None = None
    confidence: Path | None = None

    def check(self) -> None:
        """ValueError if a file has the wrong suffix."""
        for path, suffix in ((self.strip, ".png"), (self.gif, ".gif"), (self.confidence, ".png")):
            if path is not None and path.suffix.lower() != suffix:
                raise ValueError(f"{path}: this picture is written as {suffix}")

    def __bool__(self) -> bool:
        return any((self.strip, self.gif, self.confidence))

    def draw(self, images: Tensor, confidence: Tensor, row_names: Sequence[str]) -> list[Path]:
        """Write them.

        images: (rows, columns, c, height, width); confidence: (rows, rounds, h, w).
        """
        paths = []
        if self.strip is not None:
            picture = image_grid(
                images.flatten(0, 1), num_columns=images.shape[1], row_names=row_names
            )
            paths.append(save_png(picture, self.strip))
        if self.gif is not None:
            paths.append(save_gif(images, self.gif))
        if self.confidence is not None:
            paths.append(heat_maps(confidence, self.confidence, row_names=row_names))
        return paths


@torch.no_grad()
def frames(pipeline: Pipeline, rounds: Sequence[Tensor]) -> Tensor:
    """Grids (batch, h, w) by round -> images (batch, rounds, c, height, width).

    Pixels of hidden codes are grey; where codes have no places, all are drawn without those hidden.
    """
    columns = []
    for codes in rounds:
        hidden = codes == pipeline.model.mask_id
        pixels = pipeline.tokenizer.pixels_of(hidden)[:, None]
        columns.append(pipeline.tokenizer.decode(codes, hidden).masked_fill(pixels, 0.0).cpu())
    return torch.stack(columns, 1)


def save_gif(images: Tensor, path: Path, num_columns: int = 10) -> Path:
    """Images (batch, rounds, c, h, w) -> a moving picture, a frame a round, without end."""
    pictures = [
        image_grid(images[:, number], num_columns=num_columns) for number in range(images.shape[1])
    ]
    milliseconds = [int(1000 * SECONDS)] * (len(pictures) - 1) + [int(1000 * LAST_SECONDS)]
    first, *rest = (picture.convert("P", palette=Image.Palette.ADAPTIVE) for picture in pictures)
    with replacing(path) as aside:
        first.save(
            aside, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0
        )
    return path


def watched(
    pipeline: Pipeline, labels: Sequence[int], seeds: Sequence[int], **options: Any
) -> tuple[Tensor, Tensor]:
    """By round: images (batch, rounds, c, height, width), confidence (batch, rounds, h, w)."""
    rounds = list(pipeline.watch(labels, seeds, **options))
    confidence = torch.stack([found.confidence for found in rounds], 1).cpu()
    return frames(pipeline, [found.codes for found in rounds]), confidence
