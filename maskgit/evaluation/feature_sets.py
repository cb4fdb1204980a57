"""What a feature network sees of images: the sets that metrics compare, and their cache."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from maskgit.data.alpha import laid
from maskgit.data.npz import read_npz
from maskgit.data.order import spread
from maskgit.evaluation.features import ClassifierFeatures, FeatureNetwork
from maskgit.evaluation.image_sets import ImageSet, fingerprint, reconstructions, shared_out
from maskgit.machine import cache_folder, warn_once
from maskgit.processes import gather_rows, summed, this_process
from vqgan.chunks import in_chunks
from vqgan.devices import widest_float
from vqgan.files import replacing
from vqgan.grids import GridTokenizer

KEPT = 50_000
"""Images of a set whose features are kept; mean and covariance are of all of them, however many."""


class FeatureSet(NamedTuple):
    """What a network sees of a set of images.

    The arrays of rows are of the `m` images kept, in their order.
    """

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

    def columns(self, start: int, stop: int) -> FeatureSet:
        """The set of some of the features."""
        chosen = slice(start, stop)
        return self._replace(
            mean=self.mean[chosen],
            covariance=self.covariance[chosen, chosen],
            features=self.features[:, chosen],
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
    """Look at every image once, over all processes -> the set on the main one, none on the others.

    Chunks of `batch_size` are the same for any number of processes, so the features are too, and
    the moments but for the order of their sums: each process adds up its own, and all do once.
    """
    count, main = images.num_images, this_process().is_main_process
    indices = torch.tensor(spread(count, keep))
    kept = torch.zeros(count, dtype=torch.bool).index_fill(0, indices, True)
    found: list[Tensor] = []
    moments, widths = _Moments(), [1]
    with tqdm(total=count, unit="image", desc=title, disable=not main) as bar:
        for share in shared_out(images, batch_size):
            mine = torch.empty(0, 1)
            if share is not None:
                seen = _look(network, judge, laid(share.pixels, images.background))
                moments.add(seen.features)
                widths = [part.shape[1] for part in seen]
                mine = torch.cat(seen, 1)[kept[share.numbers.start : share.numbers.stop]]
            rows = gather_rows(mine)
            found += [rows.cpu()] if main and len(rows) else []
            bar.update(min(batch_size * this_process().num_processes, count - bar.n))
    mean, covariance = moments.of_all(count)
    if not main:
        return None
    features, logits, judged = torch.cat(found).split(widths, 1)
    return FeatureSet(
        num_images=count,
        mean=mean,
        covariance=covariance,
        features=features,
        logits=logits,
        labels=None if images.labels is None else torch.from_numpy(images.labels)[indices],
        judged=None if judge is None else judged[:, 0].long(),
        indices=indices,
        about=images.counted(),
    )


class _Moments:
    """Sums of features and of their products, in float64, of this process's images."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None  # (1 + dim, dim)

    def add(self, features: Tensor) -> None:
        """features: (n, dim), summed where they are, or on the CPU if there is no float64."""
        if widest_float(features.device) != torch.float64:
            features = features.cpu()
        values = features.double()
        found = torch.cat((values.sum(0)[None], values.T @ values))
        self.sums = found if self.sums is None else self.sums.add_(found)

    def of_all(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean (dim,) and unbiased covariance (dim, dim) of all processes' images, `count`."""
        state, sums = this_process(), self.sums
        if state.num_processes > 1:
            width = torch.tensor([[0 if sums is None else sums.shape[1]]])
            dim = int(gather_rows(width).max())  # a process may have had no image
            sums = torch.zeros(dim + 1, dim, dtype=torch.float64) if sums is None else sums
            sums = summed(sums)
        assert sums is not None
        first, products = sums.cpu().split([1, sums.shape[1]])
        covariance = (products - first.T @ first / count) / max(1, count - 1)
        return (first[0] / count).numpy(), covariance.numpy()


class _Rows(NamedTuple):
    """What is seen of some images, float32."""

    features: Tensor  # (n, dim)
    logits: Tensor  # (n, classes)
    judged: Tensor  # (n, 1)


def _look(network: FeatureNetwork, judge: ClassifierFeatures | None, pixels: Tensor) -> _Rows:
    """What is seen of uint8 (n, channels, height, width), fewer at once where memory runs out."""
    other = None if judge is network else judge
    parts = list(in_chunks(partial(_see, network, other, pixels), len(pixels), len(pixels)))
    return _Rows(*(torch.cat(side).float() for side in zip(*parts, strict=True)))


def _see(
    network: FeatureNetwork, judge: ClassifierFeatures | None, pixels: Tensor, part: slice
) -> _Rows:
    """What is seen of some images; judge: if that is another network."""
    seen = network.see(pixels[part])
    verdict = seen.logits if judge is None else judge.see(pixels[part]).logits
    return _Rows(*seen, verdict.argmax(1, keepdim=True))


def extract_reconstructions(
    tokenizer: GridTokenizer,
    images: ImageSet,
    network: FeatureNetwork,
    judge: ClassifierFeatures | None = None,
    *,
    batch_size: int = 100,
) -> dict[str, FeatureSet | None]:
    """The sets that rFID compares: "originals", and "decoded", the same through the tokenizer."""
    again = reconstructions(tokenizer, images)
    originals = extract_cached(images, network, judge, batch_size=batch_size, title="originals")
    decoded = extract(again, network, judge, batch_size=batch_size, title="decoded")
    return {"originals": originals, "decoded": decoded}


def extract_cached(
    images: ImageSet,
    network: FeatureNetwork,
    judge: ClassifierFeatures | None = None,
    *,
    batch_size: int = 100,
    title: str = "",
) -> FeatureSet | None:
    """As `extract`, but once for the same images and networks: the file's name is their hash."""
    judging = judge and judge.about
    parts = [fingerprint(images), images.num_images, network.about, judging, KEPT, "named"]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = cache_folder() / f"features-{key[:24]}.npz"
    found = _readable(path) if this_process().is_main_process else None
    there = torch.tensor([[float(found is not None)]])
    if gather_rows(there)[0].item():  # the main process decides for all
        return found
    found = extract(images, network, judge, batch_size=batch_size, title=title)
    if found is not None:
        try:
            write_features(path, found)
        except OSError as error:
            warn_once(f"features are not kept for the next time: {error}")
    return found


def _readable(path: Path) -> FeatureSet | None:
    """What a cache file holds; none if there is none, or if it is broken: then it is made again."""
    try:
        return read_features(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        warn_once(f"{path} cannot be read ({error}): it is made again")
        return None


def write_features(path: Path, found: FeatureSet) -> None:
    """One .npz file; its `mu` and `sigma` are what ADM's reference files call them."""
    optional = {"labels": found.labels, "judged": found.judged}
    arrays = {name: part.numpy() for name, part in optional.items() if part is not None}
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez(
            file,
            name=np.frombuffer(path.name.encode(), np.uint8),
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
    """Undo `write_features`; ValueError if the file is damaged, or another one under this name."""
    arrays = read_npz(path)
    if arrays["name"].tobytes() != path.name.encode():
        raise ValueError("it is the file of other images")
    names = ("features", "logits", "indices", "labels", "judged")
    rows = {name: torch.from_numpy(arrays[name]) for name in names if name in arrays}
    return FeatureSet(
        num_images=int(arrays["num_images"]),
        mean=arrays["mu"],
        covariance=arrays["sigma"],
        features=rows["features"],
        logits=rows["logits"],
        labels=rows.get("labels"),
        judged=rows.get("judged"),
        indices=rows["indices"],
        about=json.loads(arrays["about"].tobytes()),
    )
