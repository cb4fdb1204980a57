"""PERCEPTUAL: vqgan's perceptual losses, and one in the features of the project's own classifier.

The latter needs no download: `maskgit train <data>/classifier`, then `loss.perceptual={name: classifier, weights:
runs/<data>/classifier}`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from maskgit.classifier import Classifier
from vqgan import losses
from vqgan.weights import weights_of


class ClassifierDistance(losses.FeatureDistance):
    """The distance in a Classifier, after each of its convolutions.

    weights: a classifier's run or its file. It should have seen other images than those the tokenizer is measured on.
    """

    def __init__(self, *, weights: str) -> None:
        super().__init__()
        self.classifier, _ = Classifier.load(weights_of(weights, "classifier"))
        self.classifier.requires_grad_(False)

    def features_of(self, images: Tensor) -> list[Tensor]:
        """After each convolution. ValueError for images of another number of channels than it was trained on."""
        channels = self.classifier.config["channels"]
        if images.shape[1] != channels:
            raise ValueError(f"the classifier was trained on {channels} channels, the images have {images.shape[1]}")
        found, x = [], images
        for layer in self.classifier.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found


PERCEPTUAL: dict[str, Callable[..., nn.Module]] = {**losses.PERCEPTUAL, "classifier": ClassifierDistance}
