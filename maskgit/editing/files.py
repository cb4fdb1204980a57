"""What is edited: files, or images of the run's own data, as the model takes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from maskgit.config.sections import DataConfig
from maskgit.data.datasets import ImageDataset, Quarantine, transform_of
from maskgit.data.pixels import Transform, open_image, to_mask, to_pil, to_pixels
from maskgit.data.sources import load_source
from maskgit.editing.operations import check_image
from maskgit.pipeline.pipeline import Pipeline

OF_DATA = re.compile(r"(train|validation):(\d+)")


def picture_of(
    pipeline: Pipeline, name: str, resize: bool, *, alone: bool = True
) -> tuple[Tensor, int | None]:
    """uint8 (channels, height, width) and, for an image of the run's data, its label."""
    if match := OF_DATA.fullmatch(name):
        if not pipeline.data:
            raise ValueError(f"{name}: this model does not know its data; name a file instead")
        data = DataConfig.model_validate(pipeline.data)
        source, number = load_source(data.source, match[1]), int(match[2])
        images = ImageDataset(source, transform_of(data), quarantine=Quarantine())
        if number >= len(images):
            raise ValueError(f"{name}: there are {len(images)} images, 0 to {len(images) - 1}")
        batch = images.__getitems__([(number, 0)])
        return batch.data[0], int(batch.labels[0])
    pixels = _read(pipeline, name, resize, pipeline.tokenizer.channels)
    size = pipeline.tokenizer.image_size
    try:
        check_image(pipeline, pixels.shape[1:], alone=alone)
    except ValueError as error:
        raise ValueError(f"{name}: {error} (--resize cuts it to {size}x{size})") from error
    return pixels, None


def _read(pipeline: Pipeline, name: str, resize: bool, channels: int) -> Tensor:
    """uint8 (channels, height, width) of a file, cut to the model's own size if that is wanted."""
    picture = _open(name)
    if picture.mode not in TAKEN_AS[channels]:
        kind = TAKEN_AS[channels][-1].replace("L", "grey")
        print(f"{name}: it is edited as an 8-bit {kind} image", file=sys.stderr)
    own = _transform(pipeline)
    if resize:
        return torch.from_numpy(own(picture).copy())
    return to_pixels(picture, channels, own.background or "white")


TAKEN_AS = {1: ("1", "L"), 3: ("1", "L", "RGB"), 4: ("1", "L", "RGB", "RGBA")}
"""The modes of pictures that lose nothing, by the channels that they are taken as."""


def _transform(pipeline: Pipeline) -> Transform:
    """How the model's own images were cut."""
    if pipeline.data:
        return transform_of(DataConfig.model_validate(pipeline.data))
    return Transform(pipeline.tokenizer.image_size, pipeline.tokenizer.channels)


def mask_of(pipeline: Pipeline, name: str, images: Sequence[str], resize: bool) -> Tensor:
    """Bool (height, width) of a file, cut as the images that are edited are.

    ValueError if they are of another size before that.
    """
    mask = to_mask(_open(name))
    if not resize:
        return mask
    for other in (image for image in images if not OF_DATA.fullmatch(image)):
        width, height = _open(other).size
        if (height, width) != mask.shape:
            sizes = f"{mask.shape[1]}x{mask.shape[0]}, {other} {width}x{height}"
            raise ValueError(
                f"{name} is {sizes} pixels: a mask is of the size of its image, "
                "and --resize cuts both"
            )
    picture = to_pil(mask[None].float() * 2 - 1)
    as_images = replace(_transform(pipeline), channels=1, range=None, background="black")
    return torch.from_numpy(as_images(picture).copy())[0] > 127


def _open(name: str) -> Image.Image:
    """A decoded file; FileNotFoundError or ValueError says what is wrong with it."""
    if not Path(name).is_file():
        raise FileNotFoundError(
            f"no image {name}: a file, or validation:17 for an image of the run's own data"
        )
    try:
        return open_image(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is not an image that can be read: {error}") from error
