"""The code-grid cache: a data set tokenised once, memory-mapped ever after.

    codes/manifest.json            what was tokenised, by which tokenizer, how, and the hash of
                                   each shard; written last
    codes/train-00000.safetensors  "codes" (rows, views, h, w) in the smallest integer type,
                                   "labels" (rows,), or (rows, n) of a source's own attributes

View 0 is the image, view 1 (of a training split, where the transform flips) its mirror image. The
second stage reads nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskgit.data.datasets import Batch
from maskgit.data.manifest import again, anew, read_manifest
from maskgit.data.shards import map_tensors, shard_path
from maskgit.processes import this_process
from maskgit.randomness import choices
from vqgan.files import replacing, sha256
from vqgan.health import code_counts, code_share
from vqgan.weights import content_hash

VERIFIED = "verified.json"
"""In a cache's folder: which of its shards were verified, and when they had been written."""


def verify(folder: Path, manifest: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """ValueError if a shard is not the one that the manifest names, or holds what cannot be.

    Done once: what was verified is known again by its size and dates. A cache of version 0.1 has no
    hashes; of it, only codes and labels are checked.
    """
    hashes = manifest.get("sha256")
    if hashes is None:
        _say_unproved(folder)
    seen = _verified(folder)
    new = {path.name: _stamp(path, manifest) for path in paths}
    if all(seen.get(name) == stamp for name, stamp in new.items()):
        return
    for path in paths:
        if seen.get(path.name) == new[path.name]:
            continue
        if hashes is not None and hashes.get(path.name) != sha256(path):
            raise ValueError(f"{path} is not as it was written: {again(folder)}")
        _check_range(path, manifest)
    with suppress(OSError), replacing(folder / VERIFIED) as aside:  # or it is done again
        aside.write_text(json.dumps(seen | new))


@lru_cache
def _say_unproved(folder: Path) -> None:
    """Once a process that speaks."""
    if this_process().is_main_process:
        print(
            f"{folder} is of a version that kept no hashes, so that it cannot be verified: "
            f"{anew(folder)}",
            file=sys.stderr,
        )


def _stamp(path: Path, manifest: Mapping[str, Any]) -> list[Any]:
    """What a shard is known again by, and what it was held against."""
    state = path.stat()
    return [
        state.st_size,
        state.st_mtime_ns,
        state.st_ctime_ns,
        (manifest.get("sha256") or {}).get(path.name),
        manifest["codebook_size"],
        len(manifest["class_names"]),
    ]


def _verified(folder: Path) -> dict[str, Any]:
    """name -> stamp of the shards that were verified."""
    try:
        found = json.loads((folder / VERIFIED).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_range(path: Path, manifest: Mapping[str, Any]) -> None:
    """ValueError if a code or a label is outside its range."""
    shard = map_tensors(path)
    limits = {"codes": manifest["codebook_size"]}
    if shard["labels"].ndim == 1:  # else they are a source's own attributes
        limits["labels"] = len(manifest["class_names"])
    for name, limit in limits.items():
        low, high = shard[name].min(), shard[name].max()
        if not (low >= 0 and high < limit):
            raise ValueError(
                f"{path} has {name} {low} .. {high}, not in 0 .. {limit - 1}: {again(path.parent)}"
            )


def check_tokenizer(
    folder: str | Path, manifest: dict[str, Any], tokenizer_path: str | Path, found: str = ""
) -> None:
    """ValueError if another tokenizer than the weights at `tokenizer_path` made the cache.

    found: their content hash, where they were read already.
    """
    found = found or content_hash(tokenizer_path, "tokenizer")
    if manifest["tokenizer_sha256"] != found:
        raise ValueError(
            f"the code cache in {folder} was made by tokenizer "
            f"{manifest['tokenizer_sha256'][:12]}, but {tokenizer_path} is {found[:12]}: "
            f"{anew(folder)}"
        )


class CodeDataset:
    """The cached grids of one split.

    In training the view is a function of (seed, epoch, index), else it is view 0.
    """

    def __init__(
        self, folder: str | Path, split: str, *, seed: int = 0, augment: bool = False
    ) -> None:
        self.manifest = read_manifest(folder)
        if split not in self.manifest["splits"]:
            raise ValueError(
                f"the code cache in {folder} has no {split} split: it was not tokenised"
            )
        rows = self.manifest["splits"][split]["shards"]
        if not rows:
            raise ValueError(f"the code cache in {folder} has no images in its {split} split")
        paths = [shard_path(Path(folder), split, number) for number in range(len(rows))]
        if missing := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(f"{missing[0]} is missing: {again(folder)}")
        verify(Path(folder), self.manifest, paths)
        shards = [map_tensors(path) for path in paths]
        counts = [len(shard["labels"]) for shard in shards]
        if counts != rows or len({shard["codes"].shape[1:] for shard in shards}) > 1:
            raise ValueError(
                f"the {split} shards in {folder} hold {counts} rows, not {rows} of one size, "
                f"as its manifest says: {again(folder)}"
            )
        self.codes = [shard["codes"] for shard in shards]
        self.labels = np.concatenate([shard["labels"] for shard in shards])
        self.starts = np.concatenate(([0], np.cumsum(counts)))
        self.folder, self.split, self.seed, self.augment = folder, split, seed, augment
        self.num_views = self.codes[0].shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_labels(self) -> np.ndarray:
        """The cache's."""
        return self.labels

    def __reduce__(self) -> tuple[Any, ...]:
        """Opened again where it is unpickled: a memory map would be sent with all that it maps."""
        options: dict[str, Any] = {"seed": self.seed, "augment": self.augment}
        return partial(CodeDataset, self.folder, self.split, **options), ()

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of every grid."""
        return tuple(self.codes[0].shape[2:])

    def views_of(self, keys: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """keys: (index, epoch) pairs -> the index and the view of each: int64."""
        indices, epochs = np.array(keys, dtype=np.int64).T
        if self.augment and self.num_views > 1:
            return indices, choices(self.num_views, self.seed, epochs, indices)
        return indices, np.zeros(len(indices), dtype=np.int64)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """keys: (index, epoch) pairs -> a Batch of codes."""
        indices, views = self.views_of(keys)
        shards = np.searchsorted(self.starts, indices, side="right") - 1
        grids = np.empty((len(indices), *self.grid), dtype=np.int64)
        for shard in np.unique(shards):
            rows = shards == shard
            grids[rows] = self.codes[shard][indices[rows] - self.starts[shard], views[rows]]
        return Batch(torch.from_numpy(grids), torch.from_numpy(self.labels[indices]))


def code_usage(folder: str | Path) -> float:
    """Share of the codebook that the training split of a cache uses."""
    dataset = CodeDataset(folder, "train")
    size = dataset.manifest["codebook_size"]
    parts = dataset.manifest.get("codes_per_cell", 1)
    counts = sum(
        code_counts(torch.from_numpy(shard.astype(np.int64)), size, parts)
        for shard in dataset.codes
    )
    assert isinstance(counts, torch.Tensor)
    return code_share(counts)


def code_datasets(
    folder: str, tokenizer: Path, tokenizer_sha256: str, seed: int
) -> tuple[CodeDataset, CodeDataset]:
    """(training, validation) grids of a cache; ValueError if another tokenizer than the one with
    that content hash made it, or if it is damaged, which the main process finds out first."""
    with this_process().main_process_first():
        train = CodeDataset(folder, "train", seed=seed, augment=True)
        check_tokenizer(folder, train.manifest, tokenizer, tokenizer_sha256)
        return train, CodeDataset(folder, "validation")
