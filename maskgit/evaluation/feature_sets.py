"""What a feature network sees of images: the sets that metrics compare, and their cache."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from maskgit.data.order import spread
from maskgit.evaluation.features import ClassifierFeatures, FeatureNetwork
from maskgit.evaluation.image_sets import ImageSet, fingerprint, reconstructions, shared_out
from maskgit.processes import gather_rows, this_process
from vqgan.chunks import in_chunks
from vqgan.files import replacing
from vqgan.tokenizer import Tokenizer

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
    the moments but for the order of their sums.
    """
    count, main = images.num_images, this_process().is_main_process
    indices = torch.tensor(spread(count, keep))
    kept = torch.zeros(count, dtype=torch.bool).index_fill(0, indices, True)
    rows: list[_Rows] = []
    sums: Any = 0.0
    products: Any = 0.0
    first = 0
    with tqdm(total=count, unit="image", desc=title, disable=not main) as bar:
        for found in _look(images, network, judge, batch_size):
            values = found.features.double()
            sums, products = sums + values.sum(0), products + values.T @ values
            chosen = kept[first : first + len(values)]
            rows.append(_Rows(*(part[chosen] for part in found)))
            first += len(values)
            bar.update(len(values))
    if not main:
        return None
    features, logits, judged = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return FeatureSet(
        num_images=count,
        mean=(sums / count).numpy(),
        covariance=((products - torch.outer(sums, sums) / count) / max(1, count - 1)).numpy(),
        features=features,
        logits=logits,
        labels=None if images.labels is None else torch.from_numpy(images.labels)[indices],
        judged=None if judge is None else judged[:, 0].long(),
        indices=indices,
        about=images.counted(),
    )


class _Rows(NamedTuple):
    """What is seen of some images, float32."""

    features: Tensor  # (n, dim)
    logits: Tensor  # (n, classes)
    judged: Tensor  # (n, 1)


def _look(
    images: ImageSet, network: FeatureNetwork, judge: ClassifierFeatures | None, batch_size: int
) -> Iterator[_Rows]:
    """What all processes together see, turn by turn; on the main one, which has a share in each."""
    other = None if judge is network else judge
    for share in shared_out(images, batch_size):
        mine: tuple[Tensor, ...] = (torch.empty(0, 1),)
        if share is not None:
            see = partial(_see, network, other, share.pixels)
            parts = in_chunks(see, len(share.pixels), len(share.pixels))
            mine = tuple(map(torch.cat, zip(*parts, strict=True)))
        found = gather_rows(torch.cat([part.float() for part in mine], dim=1)).cpu()
        if this_process().is_main_process:
            yield _Rows(*found.split([part.shape[1] for part in mine], dim=1))


def _see(
    network: FeatureNetwork, judge: ClassifierFeatures | None, pixels: Tensor, part: slice
) -> _Rows:
    """What is seen of some images; judge: if that is another network."""
    seen = network.see(pixels[part])
    verdict = seen.logits if judge is None else judge.see(pixels[part]).logits
    return _Rows(*seen, verdict.argmax(1, keepdim=True))


def extract_reconstructions(
    tokenizer: Tokenizer,
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


DAMAGED = (zipfile.BadZipFile, zlib.error)
"""What the library of .npz files raises for bytes that were changed."""


def cache_folder() -> Path:
    """Where the features of reference sets are kept: $MASKGIT_CACHE, or ~/.cache/maskgit."""
    return Path(os.environ.get("MASKGIT_CACHE") or Path.home() / ".cache" / "maskgit")


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
    parts = [fingerprint(images), images.num_images, network.about, judging, KEPT]
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
            print(f"warning: features are not kept for the next time: {error}", file=sys.stderr)
    return found


def _readable(path: Path) -> FeatureSet | None:
    """What a cache file holds; none if there is none, or if it is broken: then it is made again."""
    try:
        return read_features(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, *DAMAGED) as error:
        print(f"warning: {path} cannot be read ({error}): it is made again", file=sys.stderr)
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
