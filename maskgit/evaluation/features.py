"""FEATURES: networks that turn images into the vectors that FID and the others compare.

A feature network is a class `(weights) -> network`, listed in the table; every number names it and
its weights' hash.
"""

from __future__ import annotations

import io
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.data.pixels import to_float
from maskgit.processes import this_process
from vqgan.classifier import Classifier
from vqgan.files import sha256
from vqgan.registry import choose
from vqgan.weights import content_hash, weights_of


class Seen(NamedTuple):
    """What a network sees in a batch of images."""

    features: Tensor  # (n, dim) float32
    logits: Tensor  # (n, classes) float32


class FeatureNetwork(Protocol):
    """Images in, vectors out."""

    about: dict[str, Any]  # JSON values: name, sha256 and what else a table should say

    def see(self, images: Tensor) -> Seen:
        """images: uint8 (n, channels, height, width), on any device."""
        ...


class ClassifierFeatures:
    """The project's own classifier: its last hidden layer, for data that Inception does not
    know."""

    def __init__(self, weights: str | Path, name: str = "classifier") -> None:
        path = weights_of(weights, "classifier")
        self.classifier, config = Classifier.load(path)
        self.classifier.to(this_process().device)
        self.class_names = tuple(config.get("class_names", ()))
        self.about = {"network": name, "sha256": content_hash(path, "classifier")}
        if "accuracy" in config:
            self.about["accuracy"] = f"{config['accuracy']:.2%} on held-out images"

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """uint8 (n, channels, height, width) -> Seen."""
        channels = self.classifier.config["channels"]
        if images.shape[1] != channels:
            raise ValueError(
                f"the classifier was trained on {channels} channels, "
                f"the images have {images.shape[1]}"
            )
        features = self.classifier.features(to_float(images.to(this_process().device)))
        return Seen(features, self.classifier.to_logits(features))


class WitnessFeatures(ClassifierFeatures):
    """A second classifier, of another kind than the judge, that no loss and no tuning sees."""

    def __init__(self, weights: str | Path) -> None:
        super().__init__(weights, "witness")


class SeveralFeatures:
    """Networks side by side: one look at an image gives the features of all, in one vector.

    Its logits are the first one's.
    """

    def __init__(self, networks: Sequence[FeatureNetwork]) -> None:
        self.networks = tuple(networks)
        self.about = {"networks": [network.about for network in networks]}

    def see(self, images: Tensor) -> Seen:
        """images: uint8 (n, channels, height, width) -> Seen."""
        seen = [network.see(images) for network in self.networks]
        self.widths = [one.features.shape[1] for one in seen]
        return Seen(torch.cat([one.features for one in seen], 1), seen[0].logits)


INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # the first digits, which are in the name too


def _weights_file(weights: str | Path | None, url: str, name: str, digits: str) -> Path:
    """The file given, or torch hub's, downloaded once; `digits` begin its sha256."""
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if weights:
        raise FileNotFoundError(f"no weights at {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the feature network's weights cannot be downloaded ({error}): "
            f"fetch {url} and pass it as --weights, or "
            "take --features classifier, which needs no download (--judge auto trains one)"
        ) from error
    return path


def _fill(network: nn.Module, path: Path, name: str) -> None:
    """Give a network its weights, ready for use here; ValueError if the file holds others."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise ValueError(
            f"{path} does not hold {name}'s weights ({type(error).__name__})"
        ) from error
    network.eval().to(this_process().device)


def _published(path: Path, digits: str) -> dict[str, str]:
    """What a table says of a file of weights."""
    digest = sha256(path)
    return {
        "sha256": digest,
        "weights": "as published" if digest.startswith(digits) else "NOT the published weights",
    }


class InceptionFeatures:
    """Inception-v3 as FID is published with (torch-fidelity's port of the TensorFlow graph, its own
    resize to 299).

    weights: torch-fidelity's file; by default torch hub's, downloaded once.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (
                URL_INCEPTION_V3,
                FeatureExtractorInceptionV3,
            )
        except ImportError as error:
            raise ValueError(
                "Inception features need torch-fidelity: pip install 'maskgit-torch[evaluate]'"
            ) from error
        path = _weights_file(weights, URL_INCEPTION_V3, INCEPTION_FILE, INCEPTION_SHA256)

        # its own loading would unpickle whatever the file holds
        class Unfilled(FeatureExtractorInceptionV3):
            def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
                return super().load_state_dict(state, *args, **kwargs) if state else None

        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        self.network: nn.Module = Unfilled("inception", ["2048", "logits_unbiased"], nothing)
        _fill(self.network, path, "Inception")
        self.about = {
            "network": "inception-v3 (torch-fidelity)",
            **_published(path, INCEPTION_SHA256),
        }

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """uint8 (n, channels, height, width) -> Seen; grey is repeated."""
        return Seen(*self.network(images.to(this_process().device).expand(-1, 3, -1, -1)))


class MobileNetFeatures:
    """MobileNet-v2 as torchvision trained it on ImageNet, on images resized to 128: a tenth of
    Inception's work.

    For colour images where Inception's weights (92 MB, these 14) are not at hand; its FIDs compare
    with no others.
    """

    side = 128

    def __init__(self, weights: str | Path | None = None) -> None:
        from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

        url = MobileNet_V2_Weights.IMAGENET1K_V1.url
        digits = Path(url).stem.split("-")[1]
        path = _weights_file(weights, url, Path(url).name, digits)
        self.network = mobilenet_v2(weights=None)
        _fill(self.network, path, "MobileNet-v2")
        self.about = {
            "network": f"mobilenet-v2 (torchvision, {self.side} px)",
            **_published(path, digits),
        }

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """uint8 (n, channels, height, width) -> Seen; grey is repeated."""
        pixels = images.to(this_process().device).expand(-1, 3, -1, -1).float() / 255
        pixels = F.interpolate(
            pixels, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False
        )
        mean, std = (
            pixels.new_tensor(x).view(1, 3, 1, 1)
            for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        features = self.network.features((pixels - mean) / std).mean((2, 3))
        return Seen(features, self.network.classifier(features))


FEATURES: dict[str, Callable[..., FeatureNetwork]] = {
    "classifier": ClassifierFeatures,
    "inception": InceptionFeatures,
    "mobilenet": MobileNetFeatures,
    "witness": WitnessFeatures,
}


def load_features(name: str, weights: str | Path | None) -> FeatureNetwork:
    """An entry of FEATURES with its weights."""
    network = choose(FEATURES, name, "feature network")
    if weights is None and name == "classifier":
        raise ValueError(
            "classifier features need a judge: --judge auto trains one, --weights names its run"
        )
    if weights is None and name == "witness":
        raise ValueError(
            "witness features need a witness beside the run, or beside the judge: "
            "train one with `maskgit train <data>/witness`"
        )
    return network(weights)
