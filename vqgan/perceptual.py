"""PERCEPTUAL: distances in a network's features: torchvision's, LPIPS, one's own classifier.

The latter needs no download: `maskgit train <data>/classifier`, then
`loss.perceptual={name: classifier, weights: runs/<data>/classifier}`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.classifier import Classifier
from vqgan.weights import weights_of


def feature_distance(
    features_of: Callable[[Tensor], list[Tensor]], images: Tensor, targets: Tensor
) -> Tensor:
    """Distance of a network's unit-length features, averaged over layers (LPIPS, unweighted).

    features_of: (batch, channels, height, width) in [-1, 1] -> of each layer (batch, c, h, w). The
    mean over layers and places of |x - y|^2: a scalar, 0 if images and targets are equal.
    """
    with torch.no_grad():
        wanted = features_of(targets)
    sides = (features_of(images), wanted)
    units = [[F.normalize(x.float(), dim=1, eps=1e-6) for x in side] for side in sides]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(*units, strict=True)]).mean()


class TorchvisionDistance(nn.Module):
    """The distance in a torchvision classifier; images of 1 or 3 channels.

    model: a torchvision classification model with a `features` stack (vgg16, mobilenet_v2, ...).
    weights: "default" to download torchvision's newest, a name such as IMAGENET1K_V1, or a .pth /
    .safetensors state dict. layers: indices into `features`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        model: str = "vgg16",
        weights: str = "default",
        layers: tuple[int, ...] = (3, 8, 15, 22),
    ) -> None:
        super().__init__()
        import torchvision

        known = weights == "default" or weights.startswith("IMAGENET")
        try:
            net = torchvision.models.get_model(model, weights=weights.upper() if known else None)
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download torchvision's weights for {model} ({error}): give their file in "
                "loss.perceptual.weights, take your own classifier (`maskgit train "
                "DATA/classifier`, then "
                "{name: classifier, weights: RUN}), or train with loss.perceptual=null"
            ) from error
        if not known:
            net.load_state_dict(_state_dict(Path(weights)))
        self.features = net.features[: max(layers) + 1].eval().requires_grad_(False)
        self.layers = tuple(layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def features_of(self, images: Tensor) -> list[Tensor]:
        """(batch, 1 or 3, height, width) in [-1, 1] -> of each of `layers` (batch, c, h, w)."""
        x = ((images.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.std
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                found.append(x)
        return found

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """images, targets: (batch, 1 or 3, height, width) in [-1, 1] -> scalar, 0 if equal."""
        return feature_distance(self.features_of, images, targets)


def _state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from .pth read without unpickling anything but tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path} (loss.perceptual.weights)")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


SEEN = 64
"""Pixels a side that LPIPS's networks need at least: smaller images are enlarged."""


class LPIPS(nn.Module):
    """The learned perceptual metric (arXiv:1801.03924), by torchmetrics (extra `perceptual`).

    net: vgg, as it is trained with, alex, as it is reported with, or squeeze; torchvision downloads
    the backbone once.
    """

    def __init__(self, *, net: str = "vgg") -> None:
        super().__init__()
        try:
            from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
        except ImportError as error:
            raise FileNotFoundError(
                "LPIPS needs `pip install 'maskgit-torch[perceptual]'`"
            ) from error
        try:
            self.net = LearnedPerceptualImagePatchSimilarity(net_type=net, reduction="none").net  # type: ignore[arg-type]
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download torchvision's backbone of LPIPS ({error}): put its file into "
                f"{torch.hub.get_dir()}/checkpoints, take your own classifier (`maskgit train "
                "DATA/classifier`, then "
                "{name: classifier, weights: RUN}), or train with loss.perceptual=null"
            ) from error

    def distances(self, images: Tensor, targets: Tensor) -> Tensor:
        """images, targets: (batch, 1 or 3, height, width) in [-1, 1] -> (batch,), 0 if equal."""
        sides = [side.expand(-1, 3, -1, -1) for side in (images, targets)]
        if min(images.shape[-2:]) < SEEN:
            size = [max(SEEN, side) for side in images.shape[-2:]]
            sides = [
                F.interpolate(side, size, mode="bilinear", align_corners=False) for side in sides
            ]
        return self.net(*sides).flatten()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The mean of `distances`."""
        return self.distances(images, targets).mean()


class ClassifierDistance(nn.Module):
    """The distance in a Classifier, after each of its convolutions.

    weights: a classifier's run or its file. It should have seen other images than those the
    tokenizer is measured on.
    """

    def __init__(self, *, weights: str) -> None:
        super().__init__()
        self.classifier, _ = Classifier.load(weights_of(weights, "classifier"))
        self.classifier.requires_grad_(False)

    def features_of(self, images: Tensor) -> list[Tensor]:
        """After each convolution.

        ValueError for images of another number of channels than it was trained on.
        """
        channels = self.classifier.config["channels"]
        if images.shape[1] != channels:
            raise ValueError(
                f"the classifier was trained on {channels} channels, "
                f"the images have {images.shape[1]}"
            )
        found, x = [], images
        for layer in self.classifier.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """images, targets: (batch, channels, height, width) in [-1, 1] -> scalar, 0 if equal."""
        return feature_distance(self.features_of, images, targets)


PERCEPTUAL: dict[str, Callable[..., nn.Module]] = {
    "torchvision": TorchvisionDistance,
    "lpips": LPIPS,
    "classifier": ClassifierDistance,
}
