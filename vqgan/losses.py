"""What a tokenizer is trained on: a pixel loss, a perceptual loss, and an adversarial loss with its adaptive weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def l1(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(images, targets)


def l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(images, targets)


def l1_l2(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute plus mean squared error (ViT-VQGAN, arXiv:2110.04627)."""
    return F.l1_loss(images, targets) + F.mse_loss(images, targets)


PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "l2": l2, "l1_l2": l1_l2}


def feature_distance(features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the squared distance of unit-length features (batch, channels, h, w) at each place."""
    units = [[F.normalize(x.float(), dim=1, eps=1e-6) for x in side] for side in (features, wanted)]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(*units, strict=True)]).mean()


class FeatureDistance(nn.Module):
    """Distance between unit-length features of a network, averaged over its layers (as LPIPS, unweighted)."""

    def features_of(self, images: Tensor) -> list[Tensor]:
        """(batch, channels, height, width) in [-1, 1] -> of each layer (batch, c, h, w)."""
        raise NotImplementedError

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """images, targets: (batch, channels, height, width) in [-1, 1] -> scalar, zero for equal images."""
        with torch.no_grad():
            wanted = self.features_of(targets)
        return feature_distance(self.features_of(images), wanted)


class TorchvisionDistance(FeatureDistance):
    """The distance in a torchvision classifier; images of 1 or 3 channels.

    model: a torchvision classification model with a `features` stack (vgg16, mobilenet_v2, ...). weights: "default" to
    download torchvision's newest, a name such as IMAGENET1K_V1, or a .pth / .safetensors state dict. layers: indices
    into `features`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, model: str = "vgg16", weights: str = "default", layers: tuple[int, ...] = (3, 8, 15, 22)
    ) -> None:
        super().__init__()
        import torchvision

        known = weights == "default" or weights.startswith("IMAGENET")
        try:
            net = torchvision.models.get_model(model, weights=weights.upper() if known else None)
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download torchvision's weights for {model} ({error}): give their file in "
                "loss.perceptual.weights, take your own classifier (`maskgit train DATA/classifier`, then "
                "{name: classifier, weights: RUN}), or train with loss.perceptual=null"
            ) from error
        if not known:
            net.load_state_dict(_state_dict(Path(weights)))
        self.features = net.features[: max(layers) + 1].eval().requires_grad_(False)
        self.layers = tuple(layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def features_of(self, images: Tensor) -> list[Tensor]:
        """Of `layers`."""
        x = ((images.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.std
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.layers:
                found.append(x)
        return found


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

    net: vgg, as it is trained with, alex, as it is reported with, or squeeze; torchvision downloads the backbone once.
    """

    def __init__(self, *, net: str = "vgg") -> None:
        super().__init__()
        try:
            from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
        except ImportError as error:
            raise FileNotFoundError("LPIPS needs `pip install 'maskgit-torch[perceptual]'`") from error
        try:
            self.net = LearnedPerceptualImagePatchSimilarity(net_type=net, reduction="none").net  # type: ignore[arg-type]
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download torchvision's backbone of LPIPS ({error}): put its file into "
                f"{torch.hub.get_dir()}/checkpoints, take your own classifier (`maskgit train DATA/classifier`, then "
                "{name: classifier, weights: RUN}), or train with loss.perceptual=null"
            ) from error

    def distances(self, images: Tensor, targets: Tensor) -> Tensor:
        """images, targets: (batch, 1 or 3, height, width) in [-1, 1] -> (batch,), 0 for equal images."""
        sides = [side.expand(-1, 3, -1, -1) for side in (images, targets)]
        if min(images.shape[-2:]) < SEEN:
            size = [max(SEEN, side) for side in images.shape[-2:]]
            sides = [F.interpolate(side, size, mode="bilinear", align_corners=False) for side in sides]
        return self.net(*sides).flatten()

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The mean of `distances`."""
        return self.distances(images, targets).mean()


PERCEPTUAL: dict[str, Callable[..., nn.Module]] = {"torchvision": TorchvisionDistance, "lpips": LPIPS}


class Adversarial(NamedTuple):
    """The two sides of a GAN loss on logits."""

    generator: Callable[[Tensor], Tensor]  # logits of fakes -> scalar
    discriminator: Callable[[Tensor, Tensor], Tensor]  # logits of reals and of fakes -> scalar


ADVERSARIAL = {
    "hinge": Adversarial(
        generator=lambda fake: -fake.mean(),
        discriminator=lambda real, fake: 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean()),
    ),
    "non_saturating": Adversarial(
        generator=lambda fake: F.softplus(-fake).mean(),
        discriminator=lambda real, fake: 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean()),
    ),
}


def adaptive_weight(
    losses: Iterable[tuple[Tensor, Tensor]],
    last_weight: Tensor,
    mean_over_processes: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Tensor:
    """lambda = |d L_rec / dW| / (|d L_gan / dW| + 1e-4), clamped to [0, 1e4] (VQGAN, arXiv:2012.09841, eq. 7).

    losses: (L_rec, L_gan) of each of the equal parts of a batch. last_weight: W, of the decoder's last convolution. The
    gradients are those of the whole batch: with several processes, pass what averages them. Keeps the graphs for the
    backward pass to come.
    """
    rec, gan = torch.zeros_like(last_weight), torch.zeros_like(last_weight)
    number = 0
    for reconstruction, adversarial in losses:
        rec += torch.autograd.grad(reconstruction, last_weight, retain_graph=True)[0]
        gan += torch.autograd.grad(adversarial, last_weight, retain_graph=True)[0]
        number += 1
    rec, gan = mean_over_processes(rec / number), mean_over_processes(gan / number)
    return (rec.norm() / (gan.norm() + 1e-4)).clamp(0, 1e4).detach()
