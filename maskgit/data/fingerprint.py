"""What images a data source gave: whether they are the same is known without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from maskgit.data.datasets import ImageDataset
from maskgit.data.sources import Source


def fingerprint(sources: Mapping[str, Source]) -> dict[str, str]:
    """{"files": hash of the names, sizes and labels of all images, "times": of their dates}.

    Names count from the folder that holds all files of all splits, so that a data set may be
    moved. Of images that are no files, sizes are left out, and "times" is empty: nobody knows.
    """
    names = {
        split: [source.name(index) for index in range(len(source.labels))]
        for split, source in sources.items()
    }
    states = {split: [_state(name) for name in found] for split, found in names.items()}
    are_files = all(state is not None for found in states.values() for state in found)
    top = os.path.commonpath([n for found in names.values() for n in found]) if are_files else ""
    rows, times = [], []
    for split, source in sources.items():
        for name, state, label in zip(names[split], states[split], source.labels, strict=True):
            place = os.path.relpath(name, top) if are_files else name
            rows.append((split, place, state and state.st_size, label.tolist()))
            times.append(state and state.st_mtime_ns)
    return {"files": _hash(rows), "times": _hash(times) if are_files else ""}


def _state(name: str) -> os.stat_result | None:
    try:
        return Path(name).stat()
    except (OSError, ValueError):
        return None


def _hash(rows: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode(errors="surrogateescape"))
    return digest.hexdigest()


def data_hash(train: ImageDataset, validation: ImageDataset) -> str:
    """Of the images of a run, wherever they lie."""
    return fingerprint({"train": train.source, "validation": validation.source})["files"]
