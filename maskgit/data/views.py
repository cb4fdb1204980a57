"""The images of a data set as a cache of codes takes them: plain, and mirrored where asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from maskgit.data.datasets import Batch, ImageDataset
from maskgit.data.order import batches
from maskgit.data.pixels import to_float
from vqgan.grids import GridTokenizer


class Views:
    """The images of a data set in all their views, for a cache; corrupt ones are left out."""

    def __init__(self, dataset: ImageDataset, *, training: bool = True) -> None:
        self.dataset = dataset
        self.num_views = 2 if training and dataset.transform.flip else 1

    def __len__(self) -> int:
        return len(self.dataset)

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
