"""What images a data source gave: whether they are the same is known without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from maskgit.data.datasets import ImageDataset
from maskgit.data.sources import Source
from maskgit.processes import told_by_nodes


def fingerprint(sources: Mapping[str, Source]) -> dict[str, str]:
    """{"files": hash of the names, sizes and labels of all images, "times": of their dates}.

    Names count from the folder that holds all files of all splits, so that a data set may be
    moved. Of images that are no files, sizes are left out, and "times" is empty: nobody knows.
    """
    states = {split: _states(source) for split, source in sources.items()}
    are_files = all(found is not None for found in states.values())
    top = _top(sources.values()) if are_files else ""
    files, times = hashlib.sha256(), hashlib.sha256()
    for split, source in sources.items():
        for index, label in enumerate(source.labels):
            name, size, date = source.name(index), None, None
            if (state := states[split]) is not None:
                size, date = state[index].tolist()
            place = os.path.relpath(name, top) if are_files else name
            _add(files, (split, place, size, label.tolist()))
            _add(times, date)
    return {"files": files.hexdigest(), "times": times.hexdigest() if are_files else ""}


def _states(source: Source) -> np.ndarray | None:
    """The size and the date of each image: (n, 2) int64; none if one of them is no file."""
    found = np.empty((len(source.labels), 2), dtype=np.int64)
    for index, row in enumerate(found):
        try:
            state = Path(source.name(index)).stat()
        except (OSError, ValueError):
            return None
        row[:] = state.st_size, state.st_mtime_ns
    return found


def _top(sources: Iterable[Source]) -> str:
    """The folder that holds all files of all sources."""
    found = ""
    for source in sources:
        for index in range(len(source.labels)):
            name = source.name(index)
            found = os.path.commonpath([found or name, name])
    return found


def _add(digest: hashlib._Hash, row: object) -> None:
    digest.update(repr(row).encode(errors="surrogateescape"))


def agreed(sources: Mapping[str, Source]) -> dict[str, str]:
    """The fingerprint of what all machines of a launch see, as one process of each finds it.

    ValueError if they see different images; dates may differ.
    """
    told = told_by_nodes(lambda: fingerprint(sources))
    for rank, found in told.items():
        if found["files"] != told[0]["files"]:
            raise ValueError(f"process {rank} sees other images than process 0: copy them anew")
    return told[0]


def data_hash(train: ImageDataset, validation: ImageDataset) -> str:
    """Of the images of a run, wherever they lie."""
    return agreed({"train": train.source, "validation": validation.source})["files"]
