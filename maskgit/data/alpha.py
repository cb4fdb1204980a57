"""Alpha: images that are transparent in places, premultiplied inside and straight in files.

A tokenizer of 4 channels learns red, green and blue times alpha, and alpha: what is transparent has
no colour to be learned, and images may be resized and mixed like any other. A network that looks at
images (a classifier, a metric's, a perceptual loss's) sees them on a colour, `data.background`.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

WITH_ALPHA = 4
"""Channels of an image that has alpha, which is the last."""
SQUARE = 8
"""Pixels a side of a checkerboard's squares."""


def seen_channels(channels: int) -> int:
    """Of what networks see of images of so many channels: 3 of RGBA, on a background."""
    return 3 if channels == WITH_ALPHA else channels


def on_colour(images: Tensor, background: str) -> Tensor:
    """(batch, 4, height, width) in [-1, 1], premultiplied -> RGB on a colour; others as they are.

    p + (1 - a) b, of values in [0, 1] (Porter & Duff 1984, "over").
    """
    if images.shape[1] != WITH_ALPHA:
        return images
    colour = torch.tensor(ImageColor.getrgb(background)[:3], device=images.device) / 255
    return _over(images, colour.view(3, 1, 1))


def on_checkerboard(images: Tensor) -> Tensor:
    """The same, on white and pale grey squares, by which people know transparency."""
    if images.shape[1] != WITH_ALPHA:
        return images
    height, width = (torch.arange(side) // SQUARE for side in images.shape[-2:])
    board = 1 - 0.12 * ((height[:, None] + width) % 2)
    return _over(images, board.to(images.device))


def _over(images: Tensor, behind: Tensor) -> Tensor:
    """behind: in [0, 1], of a shape that spreads over (3, height, width)."""
    colours, alpha = images[:, :3], images[:, 3:]
    return colours + (1 - alpha) * behind


def laid(pixels: Tensor, background: str) -> Tensor:
    """uint8 (batch, 4, height, width), premultiplied -> RGB on a colour; others as they are.

    As of the PNG of the image: a colour brighter than its alpha is none.
    """
    if pixels.shape[1] != WITH_ALPHA:
        return pixels
    colour = torch.tensor(ImageColor.getrgb(background)[:3], device=pixels.device).view(3, 1, 1)
    alpha = pixels[:, 3:].float()
    behind = (255 - alpha) * colour / 255
    return (pixels[:, :3].float().minimum(alpha) + behind).round().to(torch.uint8)


def straight(pixels: np.ndarray) -> np.ndarray:
    """uint8 (..., 4), premultiplied -> colours as they are, as PNGs hold them; black without alpha.

    Premultiplied again they are the same, unless a colour was brighter than its alpha.
    """
    colours, alpha = pixels[..., :3].astype(np.float32), pixels[..., 3:].astype(np.float32)
    found = np.minimum(colours, alpha) * 255 / np.maximum(alpha, 1)
    return np.concatenate((found.round().astype(np.uint8), pixels[..., 3:]), axis=-1)


def premultiplied(pixels: np.ndarray) -> np.ndarray:
    """Undo `straight`."""
    colours, alpha = pixels[..., :3].astype(np.float32), pixels[..., 3:].astype(np.float32)
    found = (colours * alpha / 255).round().astype(np.uint8)
    return np.concatenate((found, pixels[..., 3:]), axis=-1)
