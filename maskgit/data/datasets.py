"""Images as a training sees them: a source through a transform, corrupt ones left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from maskgit.config.sections import DataConfig
from maskgit.data.colours import asked_of_colour
from maskgit.data.pixels import Transform, to_float
from maskgit.data.sources import SPLITS, Source, describe, load_source
from maskgit.data.sources.source import shown
from maskgit.machine import upload
from maskgit.processes import first_on_node, this_process
from maskgit.randomness import mixed_seed
from vqgan.files import append, replacing


class Batch(NamedTuple):
    """Images, or their cached codes, with what the source says of each."""

    data: Tensor  # uint8 (batch, channels, height, width), or int64 codes (batch, h, w)
    labels: Tensor  # (batch,) int64, or (batch, n) of a source with attributes of its own
    mirrored: Tensor | None = None  # (batch,) bool: the images that are to be seen mirrored

    def images(self, device: torch.device) -> Tensor:
        """(batch, channels, height, width) float32 in [-1, 1], made there of what is uint8 here."""
        pixels = upload(self.data, device)
        if self.mirrored is not None:
            mirrored = upload(self.mirrored, device)[:, None, None, None]
            pixels = torch.where(mirrored, pixels.flip(-1), pixels)
        return to_float(pixels)

    def grids(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(codes, labels) there."""
        return upload(self.data, device), upload(self.labels, device)


class Dataset(Protocol):
    """What a loader needs: rows are asked for by (index, epoch), a whole micro-batch at a time."""

    def __len__(self) -> int: ...

    @property
    def class_labels(self) -> np.ndarray:
        """(n,) int64, or (n, m) of a source with attributes of its own."""
        ...

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch: ...


class TooManyCorruptError(ValueError):
    """So many images cannot be read that training on the rest would hide a mistake."""


class Quarantine:
    """The images of a split that could not be read: each is told once, and too many stop the run.

    path: a file of one JSON object a line, which all splits, processes and runs write to.
    """

    def __init__(
        self, path: Path | None = None, split: str = "", *, max_share: float = 0.05
    ) -> None:
        self.path, self.split, self.max_share = path, split, max_share
        self.names: set[str] = set()

    def listed(self) -> set[str]:
        """The names that the file has of this split."""
        return {row["name"] for row in self._rows() if row.get("split", "") == self.split}

    def _rows(self) -> list[dict[str, str]]:
        """Of all splits, but lines cut short."""
        if self.path is None or not self.path.is_file():
            return []
        rows = []
        for line in self.path.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict) and "name" in row]

    def add(self, name: str, reason: str, num_images: int) -> None:
        """Report `name` if it is new; ValueError if over `max_share` of the split are corrupt."""
        if name not in self.names:
            self.names |= self.listed()
        if name not in self.names:
            self.names.add(name)
            print(f"skipped a corrupt image: {shown(name)}: {reason}", file=sys.stderr, flush=True)
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                row = {"name": name, "split": self.split, "reason": reason}
                append(self.path, json.dumps(row))
        if len(self.names) > max(3, self.max_share * num_images):
            raise TooManyCorruptError(
                f"{len(self.names)} of {num_images} images are corrupt, "
                f"more than {self.max_share:.0%}"
                + (f"; they are listed in {self.path}" if self.path else "")
            )

    def keep(self, names: set[str]) -> None:
        """Drop from the file what else it has of this split."""
        rows = [r for r in self._rows() if r.get("split", "") != self.split or r["name"] in names]
        assert self.path is not None
        with replacing(self.path) as aside:
            aside.write_text("".join(json.dumps(row) + "\n" for row in rows))


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

    @property
    def class_labels(self) -> np.ndarray:
        """The source's."""
        return self.source.labels

    def recheck(self) -> None:
        """Drop from the quarantine what reads well now, or is not there any more."""
        if listed := self.quarantine.listed():
            there = {i: name for i in range(len(self)) if (name := self.source.name(i)) in listed}
            self.quarantine.keep({name for i, name in there.items() if self._why_bad(i)})

    def _why_bad(self, index: int) -> str:
        try:
            self.transform(self.source.image(index))
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def read(self, index: int, draws: np.ndarray | None = None) -> np.ndarray | None:
        """(channels, size, size) uint8, or none (and a report) if the image is corrupt."""
        try:
            return self.transform(self.source.image(index), draws)
        except (OSError, ValueError) as error:
            self.quarantine.add(
                self.source.name(index), f"{type(error).__name__}: {error}", len(self)
            )
            return None

    def _draws(self, epoch: int, index: int) -> np.ndarray:
        """Four numbers in [0, 1) for the transform."""
        return np.random.default_rng(mixed_seed("augmentation", self.seed, epoch, index)).random(4)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """keys: (index, epoch) pairs -> a Batch of images."""
        pixels, labels, mirrored = [], [], []
        for index, epoch in keys:
            draws = self._draws(epoch, index) if self.augment else None
            tries = ((index + step) % len(self) for step in range(len(self)))
            good = next(
                ((i, image) for i in tries if (image := self.read(i, draws)) is not None), None
            )
            if good is None:
                raise TooManyCorruptError("none of the images can be read")
            pixels.append(good[1])
            labels.append(self.source.labels[good[0]])
            mirrored.append(self.transform.mirrors(draws))
        return Batch(
            torch.from_numpy(np.stack(pixels)),
            torch.tensor(np.array(labels)),
            torch.tensor(mirrored) if any(mirrored) else None,
        )


def transform_of(data: DataConfig) -> Transform:
    """How a data section cuts its images."""
    return Transform(
        data.image_size,
        data.channels,
        data.crop,
        data.max_scale,
        data.flip,
        data.range,
        # none, as it was before there was another: a cache then stays good
        None if data.resample == "lanczos" else data.resample,
        None if data.resize == "crop" else data.resize,
        None if data.background == "white" else data.background,
    )


def image_datasets(data: DataConfig, run: Path, seed: int) -> tuple[ImageDataset, ImageDataset]:
    """(training, validation) images of a run; validation images are never augmented.

    stderr says in a line what there is.
    """
    transform = transform_of(data)
    sources = first_on_node(lambda: {split: load_source(data.source, split) for split in SPLITS})
    train, validation = (
        ImageDataset(
            source,
            transform,
            seed=seed,
            augment=split == "train",
            quarantine=Quarantine(run / "quarantine.jsonl", split),
        )
        for split, source in sources.items()
    )
    report(sources, (train, validation))
    if this_process().is_main_process and (asked := asked_of_colour(train.source, data.channels)):
        print(asked, file=sys.stderr, flush=True)
    return train, validation


def report(sources: Mapping[str, Source], datasets: Iterable[ImageDataset]) -> None:
    """Once for all processes: say what there is, and try again what could not be read."""
    if this_process().is_main_process:
        print(describe(sources), file=sys.stderr, flush=True)
        for dataset in datasets:
            dataset.recheck()
