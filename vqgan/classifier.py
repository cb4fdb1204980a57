"""A small convolutional classifier: the judge of class agreement, trained on real images only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import MultipleOf
from torch import Tensor, nn

from vqgan.normalization import GroupNorm
from vqgan.registry import Size, choose
from vqgan.weights import load_module, save_weights

GROUPS = 8
"""Of channels, that are normalised together."""
SMALLEST = 8
"""The side in pixels of the smallest images that three poolings leave something of."""


POOLINGS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


class Classifier(nn.Module):
    """Three convolutions with group norm, each with a pooling, and one hidden layer.

    About 99 % on MNIST, 92 % on Fashion. pooling, kernel_size: another kind of eyes, for a witness.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_classes: int,
        width: Annotated[Size, MultipleOf(GROUPS)] = 32,
        pooling: Literal["max", "average"] = "max",
        kernel_size: Literal[3, 5, 7] = 3,
    ) -> None:
        super().__init__()
        if width < 1 or width % GROUPS:
            raise ValueError(f"a classifier's width divides by {GROUPS}, {width} does not")
        self.config: dict[str, Any] = {
            "channels": channels,
            "num_classes": num_classes,
            "width": width,
            "pooling": pooling,
            "kernel_size": kernel_size,
        }
        layers: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2),
                GroupNorm(GROUPS, after),
                nn.ReLU(),
                choose(POOLINGS, pooling, "pooling")(2),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten())
        self.hidden = nn.Linear(36 * width, 8 * width)
        self.dropout = nn.Dropout(0.3)
        self.to_logits = nn.Linear(8 * width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> last hidden (batch, 8 width).

        ValueError for images of fewer than SMALLEST pixels a side.
        """
        height, width = images.shape[-2:]
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"a classifier sees images of {SMALLEST}x{SMALLEST} pixels or more, "
                f"not {height}x{width}"
            )
        return F.relu(self.hidden(self.layers(images)))

    def forward(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> logits: (batch, num_classes)."""
        return self.to_logits(self.dropout(self.features(images)))

    def save(self, path: str | Path, extra: dict[str, Any]) -> None:
        """Write a .safetensors file; `extra`: class names, held-out accuracy, the run's config."""
        save_weights(path, self.state_dict(), "classifier", {"model": self.config, **extra})

    @classmethod
    def load(cls, path: str | Path) -> tuple[Classifier, dict[str, Any]]:
        """-> (the classifier in eval mode, everything in its config)."""
        classifier, config = load_module(path, "classifier", lambda config: cls(**config["model"]))
        return classifier.eval(), config


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor, batch_size: int = 256) -> Tensor:
    """images: (n, channels, height, width) in [-1, 1] -> classes: (n,) int64."""
    return torch.cat([classifier(part).argmax(-1) for part in images.split(batch_size)])


def class_agreement(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of images (n, c, h, w) in [-1, 1] that the classifier reads as their label (n,)."""
    return (predict(classifier, images) == labels).sum().item() / len(labels)
