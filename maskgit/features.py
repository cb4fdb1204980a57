"""FEATURES: networks that turn images into the vectors that FID and the others compare; and what they see of a set.

A feature network is a class `(weights) -> network`, listed in the table; every number names it and its weights' hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from maskgit.image_sets import ImageSet, chunks_of, fingerprint
from maskgit.images import to_float
from maskgit.order import spread
from maskgit.processes import gather_rows, share_out, this_process
from vqgan.classifier import Classifier
from vqgan.files import replacing, sha256
from vqgan.registry import choose
from vqgan.weights import content_hash, weights_of

KEPT = 50_000
"""Images of a set whose features are kept; mean and covariance are of all of them, however many."""


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
    """The project's own classifier: its last hidden layer, for data that Inception does not know."""

    def __init__(self, weights: str | Path) -> None:
        path = weights_of(weights, "classifier")
        self.classifier, config = Classifier.load(path)
        self.classifier.to(this_process().device)
        self.class_names = tuple(config.get("class_names", ()))
        self.about = {"network": "classifier", "sha256": content_hash(path, "classifier")}
        if "accuracy" in config:
            self.about["accuracy"] = f"{config['accuracy']:.2%} on held-out images"

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """uint8 (n, channels, height, width) -> Seen."""
        channels = self.classifier.config["channels"]
        if images.shape[1] != channels:
            raise ValueError(f"the classifier was trained on {channels} channels, the images have {images.shape[1]}")
        features = self.classifier.features(to_float(images.to(this_process().device)))
        return Seen(features, self.classifier.to_logits(features))


INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # the first digits, which are in the name too


def _weights_file(weights: str | Path | None, url: str, name: str, digits: str) -> Path:
    """The file given, or the one in torch hub's cache, downloaded if it is not there; `digits` begin its sha256."""
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    if weights:
        raise FileNotFoundError(f"no weights at {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the feature network's weights cannot be downloaded ({error}): fetch {url} and pass it as --weights, or "
            "use --features classifier"
        ) from error
    return path


def _published(path: Path, digits: str) -> dict[str, str]:
    """What a table says of a file of weights."""
    digest = sha256(path)
    return {"sha256": digest, "weights": "as published" if digest.startswith(digits) else "NOT the published weights"}


class InceptionFeatures:
    """Inception-v3 as FID is published with (torch-fidelity's port of the TensorFlow graph, its own resize to 299).

    weights: torch-fidelity's file; by default it is taken from torch hub's cache, or downloaded there.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
        except ImportError as error:
            raise ValueError("Inception features need torch-fidelity: pip install 'maskgit-torch[evaluate]'") from error
        path = _weights_file(weights, URL_INCEPTION_V3, INCEPTION_FILE, INCEPTION_SHA256)

        class Unfilled(FeatureExtractorInceptionV3):  # its own loading would unpickle whatever the file holds
            def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
                return super().load_state_dict(state, *args, **kwargs) if state else None

        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        self.network: nn.Module = Unfilled("inception", ["2048", "logits_unbiased"], nothing)
        try:
            self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise ValueError(f"{path} does not hold Inception's weights ({type(error).__name__})") from error
        self.network.to(this_process().device)
        self.about = {"network": "inception-v3 (torch-fidelity)", **_published(path, INCEPTION_SHA256)}

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """uint8 (n, channels, height, width) -> Seen; grey is repeated."""
        return Seen(*self.network(images.to(this_process().device).expand(-1, 3, -1, -1)))


class MobileNetFeatures:
    """MobileNet-v2 as torchvision trained it on ImageNet, on images resized to 128: a tenth of Inception's work.

    For colour images where Inception's weights (92 MB, these 14) are not at hand; its FIDs compare with no others.
    """

    side = 128

    def __init__(self, weights: str | Path | None = None) -> None:
        from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

        url = MobileNet_V2_Weights.IMAGENET1K_V1.url
        digits = Path(url).stem.split("-")[1]
        path = _weights_file(weights, url, Path(url).name, digits)
        self.network = mobilenet_v2(weights=None)
        try:
            self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise ValueError(f"{path} does not hold MobileNet-v2's weights ({type(error).__name__})") from error
        self.network.eval().to(this_process().device)
        self.about = {"network": f"mobilenet-v2 (torchvision, {self.side} px)", **_published(path, digits)}

    @torch.no_grad()
    def see(self, images: Tensor) -> Seen:
        """uint8 (n, channels, height, width) -> Seen; grey is repeated."""
        pixels = images.to(this_process().device).expand(-1, 3, -1, -1).float() / 255
        pixels = F.interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (pixels.new_tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        features = self.network.features((pixels - mean) / std).mean((2, 3))
        return Seen(features, self.network.classifier(features))


FEATURES: dict[str, Callable[..., FeatureNetwork]] = {
    "classifier": ClassifierFeatures,
    "inception": InceptionFeatures,
    "mobilenet": MobileNetFeatures,
}


def load_features(name: str, weights: str | Path | None) -> FeatureNetwork:
    """An entry of FEATURES with its weights."""
    network = choose(FEATURES, name, "feature network")
    if weights is None and name == "classifier":
        raise ValueError("classifier features need --weights: train one with `maskgit train <data>/classifier`")
    return network(weights)


class FeatureSet(NamedTuple):
    """What a network sees of a set of images. The arrays of rows are of the `m` images kept, in their order."""

    num_images: int  # that mean and covariance are of
    mean: np.ndarray  # (dim,) float64
    covariance: np.ndarray  # (dim, dim) float64, unbiased
    features: Tensor  # (m, dim) float32
    logits: Tensor  # (m, classes) float32
    labels: Tensor | None  # (m,) int64
    judged: Tensor | None  # (m,) int64: the class that the judge reads
    indices: Tensor  # (m,) int64: their numbers in the set
    about: dict[str, Any]

    def take(self, rows: Tensor) -> FeatureSet:
        """The set of some of the kept images: rows (k,) int64, or bool (m,)."""
        features = self.features[rows]
        mean, covariance = moments(features)
        return self._replace(
            num_images=len(features),
            mean=mean,
            covariance=covariance,
            features=features,
            logits=self.logits[rows],
            labels=None if self.labels is None else self.labels[rows],
            judged=None if self.judged is None else self.judged[rows],
            indices=self.indices[rows],
        )


def moments(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean (dim,) and unbiased covariance (dim, dim) of features (n, dim), in float64."""
    values = features.double()
    return values.mean(0).numpy(), torch.cov(values.T).reshape(values.shape[1], -1).numpy()


def extract(
    images: ImageSet,
    network: FeatureNetwork,
    judge: ClassifierFeatures | None = None,
    *,
    batch_size: int = 100,
    keep: int = KEPT,
    title: str = "",
) -> FeatureSet | None:
    """Look at every image once, over all processes -> the set on the main process, none on the others.

    Chunks of `batch_size` are the same for any number of processes, so the features are too, and the moments but for
    the order of their sums.
    """
    kept = set(spread(images.num_images, keep))
    chunks = chunks_of(images.num_images, batch_size)
    mine = share_out(chunks)
    pixels = images.read([chunk for _, chunk in share_out(chunks) if chunk is not None])
    state = this_process()
    total: tuple[Any, Any] = (0.0, 0.0)
    rows: list[Tensor] = []
    shape = [0, 0]
    with tqdm(total=images.num_images, unit="image", desc=title, disable=not state.is_main_process) as bar:
        for block, chunk in mine:
            found = _row(network, judge, next(pixels), shape) if chunk is not None else torch.empty(0, sum(shape) + 1)
            found = gather_rows(found).cpu()
            if state.is_main_process:
                values = found[:, : shape[0]].double()
                total = (total[0] + values.sum(0), total[1] + values.T @ values)
                first = block * state.num_processes * batch_size
                wanted = [i for i in range(len(found)) if first + i in kept]
                rows.append(found[wanted])
                bar.update(len(found))
    if not state.is_main_process:
        return None
    n, (sums, products) = images.num_images, total
    covariance = (products - torch.outer(sums, sums) / n) / max(1, n - 1)
    features, logits, judged = torch.cat(rows).split([*shape, 1], dim=1)
    indices = torch.tensor(sorted(kept))
    labels = None if images.labels is None else torch.from_numpy(images.labels)[indices]
    verdict = None if judge is None else judged[:, 0].long()
    mean, about = (sums / n).numpy(), images.about | {"count": n}
    return FeatureSet(n, mean, covariance.numpy(), features, logits, labels, verdict, indices, about)


def _row(network: FeatureNetwork, judge: ClassifierFeatures | None, images: Tensor, shape: list[int]) -> Tensor:
    """(n, dim + classes + 1): features, logits and the judge's class side by side; `shape` learns the widths."""
    seen = network.see(images)
    verdict = seen.logits if judge is network or judge is None else judge.see(images).logits
    shape[:] = seen.features.shape[1], seen.logits.shape[1]
    return torch.cat([seen.features, seen.logits, verdict.argmax(1, keepdim=True).float()], dim=1).float()


def cache_folder() -> Path:
    """Where the features of reference sets are kept: $MASKGIT_CACHE, or ~/.cache/maskgit."""
    return Path(os.environ.get("MASKGIT_CACHE") or Path.home() / ".cache" / "maskgit")


def extract_cached(
    images: ImageSet, network: FeatureNetwork, judge: ClassifierFeatures | None = None, **options: Any
) -> FeatureSet | None:
    """As `extract`, but only once for the same images and networks: the file's name is their hash."""
    state = this_process()
    parts = [fingerprint(images), images.num_images, network.about, judge and judge.about, options.get("keep", KEPT)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = cache_folder() / f"features-{key[:24]}.npz"
    found = _readable(path) if state.is_main_process else None
    if gather_rows(torch.tensor([[float(found is not None)]]))[0].item():  # the main process decides for all
        return found
    found = extract(images, network, judge, **options)
    if found is not None:
        write_features(path, found)
    return found


def _readable(path: Path) -> FeatureSet | None:
    """What a cache file holds; none if there is none, or if it is broken, and then it is made again."""
    try:
        return read_features(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def write_features(path: Path, found: FeatureSet) -> None:
    """One .npz file; its `mu` and `sigma` are what ADM's reference files call them."""
    optional = {"labels": found.labels, "judged": found.judged}
    arrays = {name: part.numpy() for name, part in optional.items() if part is not None}
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez(
            file,
            mu=found.mean,
            sigma=found.covariance,
            num_images=np.array(found.num_images),
            features=found.features.numpy(),
            logits=found.logits.numpy(),
            indices=found.indices.numpy(),
            about=np.frombuffer(json.dumps(found.about).encode(), np.uint8),
            **arrays,  # type: ignore[arg-type]
        )


def read_features(path: Path) -> FeatureSet:
    """Undo `write_features`."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    rows = {
        n: torch.from_numpy(arrays[n]) for n in ("features", "logits", "indices", "labels", "judged") if n in arrays
    }
    return FeatureSet(
        int(arrays["num_images"]),
        arrays["mu"],
        arrays["sigma"],
        rows["features"],
        rows["logits"],
        rows.get("labels"),
        rows.get("judged"),
        rows["indices"],
        json.loads(arrays["about"].tobytes()),
    )
