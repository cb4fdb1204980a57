"""Images as a training sees them: a source through a transform, corrupt ones left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from maskgit.config.sections import DataConfig
from maskgit.data.pixels import Transform
from maskgit.data.sources import Source, load_source


class Batch(NamedTuple):
    """Images, or their cached codes, with what the source says of each."""

    data: Tensor  # uint8 (batch, channels, height, width), or int64 codes (batch, h, w)
    labels: Tensor  # (batch,) int64, or (batch, n) of a source with attributes of its own


class Dataset(Protocol):
    """What a loader needs: rows are asked for by (index, epoch), a whole micro-batch at a time."""

    def __len__(self) -> int: ...

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch: ...


class TooManyCorruptError(ValueError):
    """So many images cannot be read that training on the rest would hide a mistake."""


class Quarantine:
    """The images that could not be read: each is reported once, and too many stop the run."""

    def __init__(self, path: Path | None = None, max_share: float = 0.05) -> None:
        self.path, self.max_share = path, max_share
        self.names: set[str] = set()

    def _read(self) -> None:
        """What other workers, processes and earlier runs have found, but a line cut short."""
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text().splitlines():
                with suppress(ValueError):
                    self.names.add(json.loads(line)["name"])

    def add(self, name: str, reason: str, num_images: int) -> None:
        """Report `name` if it is new; ValueError if over `max_share` of all are corrupt by now."""
        if name not in self.names:
            self._read()
        if name not in self.names:
            self.names.add(name)
            print(f"skipped a corrupt image: {name}: {reason}", file=sys.stderr, flush=True)
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with open(self.path, "a") as file:
                    file.write(json.dumps({"name": name, "reason": reason}) + "\n")
        if len(self.names) > max(3, self.max_share * num_images):
            raise TooManyCorruptError(
                f"{len(self.names)} of {num_images} images are corrupt, "
                f"more than {self.max_share:.0%}"
                + (f"; they are listed in {self.path}" if self.path else "")
            )


class ImageDataset:
    """A source through a transform.

    A corrupt image is replaced by the next good one, the same one every time.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        seed: int = 0,
        augment: bool = False,
        quarantine: Quarantine,
    ) -> None:
        self.source, self.transform, self.seed, self.augment = source, transform, seed, augment
        self.quarantine = quarantine

    def __len__(self) -> int:
        return len(self.source.labels)

    def read(self, index: int, draws: np.ndarray | None = None) -> np.ndarray | None:
        """(channels, size, size) uint8, or none (and a report) if the image is corrupt."""
        try:
            return self.transform(self.source.image(index), draws)
        except (OSError, ValueError) as error:
            self.quarantine.add(
                self.source.name(index), f"{type(error).__name__}: {error}", len(self)
            )
            return None

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """keys: (index, epoch) pairs -> a Batch of images."""
        pixels, labels = [], []
        for index, epoch in keys:
            draws = (
                np.random.default_rng([self.seed, epoch, index]).random(4) if self.augment else None
            )
            tries = ((index + step) % len(self) for step in range(len(self)))
            good = next(
                ((i, image) for i in tries if (image := self.read(i, draws)) is not None), None
            )
            if good is None:
                raise TooManyCorruptError("none of the images can be read")
            pixels.append(good[1])
            labels.append(self.source.labels[good[0]])
        return Batch(torch.from_numpy(np.stack(pixels)), torch.tensor(np.array(labels)))


def image_datasets(data: DataConfig, run: Path, seed: int) -> tuple[ImageDataset, ImageDataset]:
    """(training, validation) images of a run; validation images are never augmented."""
    transform = Transform(data.image_size, data.channels, data.crop, data.max_scale, data.flip)
    quarantine = Quarantine(run / "quarantine.jsonl")
    train, validation = (load_source(data.source, split) for split in ("train", "validation"))
    return (
        ImageDataset(train, transform, seed=seed, augment=True, quarantine=quarantine),
        ImageDataset(validation, transform, quarantine=quarantine),
    )
