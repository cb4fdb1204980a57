"""Differentiable augmentation for a discriminator (DiffAugment, arXiv:2006.10738).

For small data sets. Real and reconstructed images are changed by the same policy, and gradients
pass through to the tokenizer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_DRAWS = 7


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Colour, translation up to an eighth, a cut-out of half the size: each image's own draws.

    images: (batch, channels, height, width) in [-1, 1] -> the same shape. draws: (batch, NUM_DRAWS)
    in [0, 1).
    """
    brightness, saturation, contrast, down, right, cut_down, cut_right = draws.unbind(1)
    return cut_out(
        translate(colour(images, brightness, saturation, contrast), down, right),
        cut_down,
        cut_right,
    )


def colour(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Each (batch,) in [0, 1): brightness by -0.5 .. 0.5, saturation times 0 .. 2, contrast times
    0.5 .. 1.5. A fourth channel, alpha, stays."""
    if images.shape[1] > 3:
        colours = colour(images[:, :3], brightness, saturation, contrast)
        return torch.cat((colours, images[:, 3:]), dim=1)
    images = images + (brightness - 0.5).view(-1, 1, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation).view(-1, 1, 1, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5).view(-1, 1, 1, 1)


def translate(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each (batch,) in [0, 1): by up to an eighth of the size either way; zeros come in."""
    height, width = images.shape[-2:]
    most = [max(1, side // 8) for side in (height, width)]
    # 0 .. 2 most
    shifts = [(u * (2 * m + 1)).long() for u, m in zip((down, right), most, strict=True)]
    padded = F.pad(images, (most[1], most[1], most[0], most[0]))
    rows = torch.arange(height, device=images.device) + shifts[0][:, None]
    columns = torch.arange(width, device=images.device) + shifts[1][:, None]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def cut_out(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each (batch,) in [0, 1): the middle of a square of half the size that becomes 0."""
    height, width = images.shape[-2:]
    y = torch.arange(height, device=images.device) - (down * height)[:, None]
    x = torch.arange(width, device=images.device) - (right * width)[:, None]
    inside = ((y.abs() < height / 4)[:, :, None] & (x.abs() < width / 4)[:, None, :])[:, None]
    return images.masked_fill(inside, 0.0)
