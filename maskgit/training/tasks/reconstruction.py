"""What decoded images are compared with their originals by: a pixel and a perceptual loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from maskgit.config.sections import ReconstructionLoss
from maskgit.data.alpha import on_colour
from vqgan.losses import PIXEL_LOSSES
from vqgan.perceptual import PERCEPTUAL
from vqgan.registry import build


class Compared(NamedTuple):
    """A loss with its parts."""

    loss: Tensor  # scalar
    logs: dict[str, Tensor]  # detached


class Comparison:
    """The losses of a config, on the device of the training.

    background: the colour on which a network sees what is transparent.
    """

    def __init__(
        self,
        config: ReconstructionLoss,
        background: str,
        accelerator: Accelerator,
        memory_format: torch.memory_format,
    ) -> None:
        self.accelerator, self.background = accelerator, background
        self.weight = config.perceptual_weight
        self.pixel = PIXEL_LOSSES[config.pixel]
        self.perceptual = None
        if config.perceptual is not None:
            seeing = build(PERCEPTUAL, config.perceptual, "perceptual loss")
            self.perceptual = seeing.to(accelerator.device).to(memory_format=memory_format)

    def __call__(self, images: Tensor, targets: Tensor) -> Compared:
        """images, targets: (batch, channels, height, width) in [-1, 1]."""
        pixel = self.pixel(images, targets)
        logs = {"pixel_loss": pixel.detach()}
        if self.perceptual is None:
            return Compared(pixel, logs)
        seen = (on_colour(side, self.background) for side in (images, targets))
        with self.accelerator.autocast():
            perceptual = self.perceptual(*seen).float()
        logs["perceptual_loss"] = perceptual.detach()
        return Compared(pixel + self.weight * perceptual, logs)
