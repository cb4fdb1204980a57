"""The images of a data set as a cache of codes takes them: plain, and mirrored where asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from maskgit.data.datasets import Batch, ImageDataset
from maskgit.data.order import batches
from maskgit.data.pixels import MIRRORED, PLAIN, to_float
from vqgan.tokenizer import Tokenizer


class Views:
    """The images of a data set in all their views, for a cache; corrupt ones are left out."""

    def __init__(self, dataset: ImageDataset, *, training: bool = True) -> None:
        self.dataset = dataset
        self.draws = [PLAIN, MIRRORED] if training and dataset.transform.flip else [PLAIN]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """-> images: (good ones, views, channels, height, width) uint8, and their labels."""
        rows = [
            (index, [self.dataset.read(index, np.array(draws)) for draws in self.draws])
            for index, _ in keys
        ]
        good = [(index, np.stack(views)) for index, views in rows if views[0] is not None]  # type: ignore[arg-type]
        if not good:
            return Batch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        labels = self.dataset.source.labels[[index for index, _ in good]]
        return Batch(
            torch.from_numpy(np.stack([views for _, views in good])), torch.from_numpy(labels)
        )


class Encoded(NamedTuple):
    """A batch of images as a cache keeps it."""

    codes: np.ndarray  # (rows, views, h, w)
    labels: np.ndarray  # (rows,)
    pixels: bytes  # of what was encoded
    stop: int  # the images up to this index were looked at


def encode_images(
    tokenizer: Tokenizer, views: Views, indices: Sequence[int], *, batch_size: int, workers: int = 0
) -> Iterator[Encoded]:
    """Those images that can be read, in batches."""
    device = next(tokenizer.parameters()).device
    size = max(1, batch_size // len(views.draws))
    order = [
        [(i, 0) for i in indices[start : start + size]] for start in range(0, len(indices), size)
    ]
    for part, batch in zip(order, batches(views, order, workers=workers), strict=True):
        if len(batch.labels):
            codes = tokenizer.encode(to_float(batch.data.to(device).flatten(0, 1)))
            yield Encoded(
                codes.unflatten(0, batch.data.shape[:2]).cpu().numpy(),
                batch.labels.numpy(),
                batch.data.numpy().tobytes(),
                part[-1][0] + 1,
            )
