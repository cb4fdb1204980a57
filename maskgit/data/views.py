"""The images of a data set as a cache of codes takes them: plain, and mirrored where asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch

from maskgit.data.datasets import Batch, ImageDataset
from maskgit.data.order import batches, chunks_of
from maskgit.data.pixels import to_float
from maskgit.stopping import check_stop
from vqgan.grids import GridTokenizer

HASHED_AT_ONCE = 100
"""Images that are read in one batch to be hashed."""


class Views:
    """The images of a data set in all their views, for a cache; corrupt ones are left out."""

    def __init__(self, dataset: ImageDataset, *, training: bool = True) -> None:
        self.dataset = dataset
        self.num_views = 2 if training and dataset.transform.flip else 1

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def class_labels(self) -> np.ndarray:
        """The data set's."""
        return self.dataset.class_labels

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """-> images: (good ones, views, channels, height, width) uint8, and their labels."""
        rows = [(index, self.dataset.read(index)) for index, _ in keys]
        good = [(index, image) for index, image in rows if image is not None]
        if not good:
            return Batch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        labels = self.dataset.source.labels[[index for index, _ in good]]
        plain = np.stack([image for _, image in good])
        views = np.stack((plain, plain[..., ::-1])[: self.num_views], axis=1)
        return Batch(torch.from_numpy(views), torch.from_numpy(labels))


class Encoded(NamedTuple):
    """A batch of images as a cache keeps it."""

    shard: int
    codes: np.ndarray  # (rows, views, h, w)
    labels: np.ndarray  # (rows,)
    pixels: bytes  # of what was encoded
    stop: int  # the images up to this index were looked at


def encode_images(
    tokenizer: GridTokenizer,
    views: Views,
    shards: Mapping[int, Sequence[int]],
    *,
    batch_size: int,
    workers: int = 0,
) -> Iterator[Encoded]:
    """Those images that can be read, in batches of one shard each, by one loader for all shards."""
    device = next(tokenizer.parameters()).device
    size = max(1, batch_size // views.num_views)
    numbers, order = [], []
    for number, indices in shards.items():
        for start in range(0, len(indices), size):
            numbers.append(number)
            order.append([(index, 0) for index in indices[start : start + size]])
    found = batches(views, order, workers=workers)
    for number, part, batch in zip(numbers, order, found, strict=True):
        if len(batch.labels):
            codes = tokenizer.encode(to_float(batch.data.to(device).flatten(0, 1)))
            yield Encoded(
                number,
                codes.unflatten(0, batch.data.shape[:2]).cpu().numpy(),
                batch.labels.numpy(),
                batch.data.numpy().tobytes(),
                part[-1][0] + 1,
            )


def hash_images(
    views: Views, shards: Mapping[int, Sequence[int]], *, workers: int = 0
) -> Iterator[tuple[int, hashlib._Hash]]:
    """(shard, sha256 of its images in all views), by one loader for all shards.

    No shard is empty. Stopped if a signal asks for it.
    """
    numbers, order = [], []
    for number, indices in shards.items():
        for part in chunks_of(len(indices), HASHED_AT_ONCE):
            numbers.append(number)
            order.append([(indices[i], 0) for i in part])
    found = zip(numbers, batches(views, order, workers=workers) if order else (), strict=True)
    for number, parts in groupby(found, itemgetter(0)):
        digest = hashlib.sha256()
        for _, batch in parts:
            check_stop()
            digest.update(batch.data.numpy().tobytes())
        yield number, digest
