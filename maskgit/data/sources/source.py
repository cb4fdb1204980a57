"""Source: what a data source gives, images one at a time and all labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

SPLITS = ("train", "validation")


class Source(NamedTuple):
    """A data set: images are decoded one at a time, labels are all there."""

    # index -> a decoded image; OSError or ValueError if it is corrupt
    image: Callable[[int], Image.Image]
    labels: np.ndarray  # (len,) int64; or (len, n), for a backbone with a condition of its own
    class_names: tuple[str, ...]  # label -> name
    name: Callable[[int], str]  # index -> what to call it in a report


def from_arrays(
    images: np.ndarray, labels: np.ndarray, names: tuple[str, ...], title: str
) -> Source:
    """images: (n, height, width[, 3]) uint8 in memory."""
    return Source(
        lambda index: Image.fromarray(images[index]),
        labels.astype(np.int64),
        names,
        lambda i: f"{title}[{i}]",
    )
