"""Source: what a data source gives, images one at a time and all labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

SPLITS = ("train", "validation")


class Skipped:
    """What a source leaves out and why, with an example of each reason."""

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """One thing that is no data; told twice, it counts once."""
        self.names.setdefault(reason, set()).add(name)

    def join(self, others: Iterable[Skipped]) -> Skipped:
        """All that these and others left out."""
        for other in others:
            for reason, names in other.names.items():
                self.names.setdefault(reason, set()).update(names)
        return self

    def __str__(self) -> str:
        return ", ".join(
            f"{len(names)} {reason} ({shown(min(names))})" for reason, names in self.names.items()
        )


def shown(name: str) -> str:
    """A file's name in one line that any terminal can print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts 2 before 10, wherever the numbers stand."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


class Source(NamedTuple):
    """A data set: images are decoded one at a time, labels are all there.

    Where data workers are spawned (Python 3.14, macOS) both functions are pickled, the data that
    they hold with them: methods of an object are, closures and lambdas are not.
    """

    # index -> a decoded image; OSError or ValueError if it is corrupt
    image: Callable[[int], Image.Image]
    labels: np.ndarray  # (len,) int64; or (len, n), for a backbone with a condition of its own
    class_names: tuple[str, ...]  # label -> name
    name: Callable[[int], str]  # index -> what to call it in a report
    skipped: Skipped = Skipped()  # what was there but is no data


def check_labels(labels: np.ndarray, num_classes: int, title: str) -> None:
    """ValueError, with their count, if there are labels that no class has, as -1 for unknown."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"{title}: {len(wrong)} of {len(labels)} rows have no label of 0 .. {num_classes - 1} "
            f"({wrong[0]}, for one): leave these rows out, or set no label column"
        )


def from_arrays(
    images: np.ndarray, labels: np.ndarray, names: tuple[str, ...], title: str
) -> Source:
    """images: (n, height, width[, 3]) uint8 in memory; ValueError if the labels do not fit."""
    if len(images) != len(labels):
        raise ValueError(f"{title} has {len(images)} images and {len(labels)} labels")
    check_labels(labels, len(names), title)
    rows = Rows(images, title)
    return Source(rows.image, labels.astype(np.int64), names, rows.name)


class Rows(NamedTuple):
    """Images in memory: (n, height, width[, 3]) uint8."""

    images: np.ndarray
    title: str

    def image(self, index: int) -> Image.Image:
        """One of them."""
        return Image.fromarray(self.images[index])

    def name(self, index: int) -> str:
        """Its row."""
        return f"{self.title}[{index}]"


def describe(sources: Mapping[str, Source]) -> str:
    """One line: the images of each split, the classes, what was left out and why, odd classes."""
    counts = ", ".join(f"{split} {len(source.labels)}" for split, source in sources.items())
    names = next(iter(sources.values())).class_names
    classes = len(names)
    skipped = str(Skipped().join(source.skipped for source in sources.values()))
    said = f"; left out: {skipped}" if skipped else ""
    if without := _without_images(sources.get("train")):
        said += f"; without a training image: {_few(without)}"
    if twins := _alike(names):
        said += f"; classes of their own, though only their case differs: {_few(twins)}"
    return f"images: {counts}, of {classes} class{'es' * (classes != 1)}{said}"


def _without_images(source: Source | None) -> list[str]:
    """The classes that no image has."""
    if source is None or source.labels.ndim > 1:
        return []
    known = set(source.labels.tolist())
    return [name for label, name in enumerate(source.class_names) if label not in known]


def _alike(names: Iterable[str]) -> list[str]:
    """`A and a`, for names that would be one where case does not count."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [" and ".join(group) for group in groups.values() if len(group) > 1]


def _few(names: list[str], count: int = 5) -> str:
    return ", ".join(map(shown, names[:count])) + f", … ({len(names)})" * (len(names) > count)
