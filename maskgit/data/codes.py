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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskgit.data.datasets import Batch
from maskgit.data.shards import map_tensors, shard_path
from maskgit.processes import this_process
from maskgit.randomness import choices
from vqgan.files import replacing, sha256
from vqgan.health import code_counts, code_share
from vqgan.weights import content_hash

FORMAT = "maskgit-codes-1"
VERIFIED = "verified.json"
"""In a cache's folder: which of its shards were verified, and when they had been written."""


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a cache; FileNotFoundError or ValueError says what to do if there is none."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no code cache in {folder}: make it with "
            f"`maskgit tokenize <tokenizer run> --out {folder}`"
        )
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): {again(folder)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a {FORMAT} manifest: was it written by another program or version?"
        )
    if wrong := [
        key for key, fits in FIELDS.items() if key in manifest and not fits(manifest[key])
    ]:
        raise ValueError(f"{path} is damaged ({wrong[0]}: {manifest[wrong[0]]!r}): {again(folder)}")
    return manifest


def again(folder: str | Path) -> str:
    """The command that makes damaged parts of a cache anew."""
    return f"`maskgit tokenize <tokenizer run> --out {folder}` makes again what is damaged"


def _are_splits(value: Any) -> bool:
    """{split: {"shards": [rows, ...], "skipped": n}}."""
    return isinstance(value, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("shards"), list)
        and all(isinstance(rows, int) and rows > 0 for rows in entry["shards"])
        for entry in value.values()
    )


FIELDS: dict[str, Callable[[Any], bool]] = {
    "tokenizer_sha256": lambda value: isinstance(value, str),
    "codebook_size": lambda value: isinstance(value, int) and 0 < value < 2**31,
    "codes_per_cell": lambda value: isinstance(value, int) and value > 0,
    "class_names": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "transform": lambda value: isinstance(value, dict),
    "splits": _are_splits,
    "sha256": lambda value: isinstance(value, dict),
}
"""What the values of a manifest are like."""


def verify(folder: Path, manifest: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """ValueError if a shard is not the one that the manifest names, or holds what cannot be.

    Done once: what was verified is known again by its size and date. A cache of version 0.1 has no
    hashes; of it, only codes and labels are checked.
    """
    seen = _verified(folder)
    new = {path.name: _stamp(path) for path in paths}
    wanted = manifest.get("sha256", {})
    for path in paths:
        if seen.get(path.name) == new[path.name]:
            continue
        if wanted and wanted.get(path.name) != sha256(path):
            raise ValueError(f"{path} is not as it was written: {again(folder)}")
        _check_range(path, manifest)
    if any(seen.get(name) != stamp for name, stamp in new.items()):
        with suppress(OSError), replacing(folder / VERIFIED) as aside:  # or it is done again
            aside.write_text(json.dumps(seen | new))


def _stamp(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _verified(folder: Path) -> dict[str, list[int]]:
    """name -> [size, date] of the shards that were verified."""
    try:
        found = json.loads((folder / VERIFIED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_range(path: Path, manifest: Mapping[str, Any]) -> None:
    """ValueError if a code or a label is outside its range."""
    shard = map_tensors(path)
    limits = {
        "codes": manifest.get("codebook_size"),
        "labels": len(manifest["class_names"]) if shard["labels"].ndim == 1 else None,
    }
    for name, limit in limits.items():
        values = shard[name]
        if limit and values.size and not (values.min() >= 0 and values.max() < limit):
            raise ValueError(
                f"{path} has {name} {values.min()} .. {values.max()}, not in 0 .. {limit - 1}: "
                f"{again(Path(path).parent)}"
            )


def check_tokenizer(
    folder: str | Path, manifest: dict[str, Any], tokenizer_path: str | Path
) -> None:
    """ValueError if another tokenizer than the weights at `tokenizer_path` made the cache."""
    found = content_hash(tokenizer_path, "tokenizer")
    if manifest["tokenizer_sha256"] != found:
        raise ValueError(
            f"the code cache in {folder} was made by tokenizer "
            f"{manifest['tokenizer_sha256'][:12]}, but {tokenizer_path} is {found[:12]}: "
            f"make the cache again with `maskgit tokenize --out {folder} --overwrite`"
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
        paths = [
            shard_path(Path(folder), split, n)
            for n in range(len(self.manifest["splits"][split]["shards"]))
        ]
        if missing := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(f"{missing[0]} is missing: {again(folder)}")
        verify(Path(folder), self.manifest, paths)
        shards = [map_tensors(path) for path in paths]
        counts = [len(shard["labels"]) for shard in shards]
        if counts != self.manifest["splits"][split]["shards"]:
            raise ValueError(
                f"the shards in {folder} hold {counts} rows, not what its manifest says: "
                f"{again(folder)}"
            )
        self.codes = [shard["codes"] for shard in shards]
        self.labels = np.concatenate([shard["labels"] for shard in shards])
        self.starts = np.concatenate(([0], np.cumsum(counts)))
        self.seed, self.augment = seed, augment
        self.num_views = self.codes[0].shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of every grid."""
        return tuple(self.codes[0].shape[2:])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """keys: (index, epoch) pairs -> a Batch of codes."""
        indices, epochs = np.array(keys, dtype=np.int64).T
        views = np.zeros(len(indices), dtype=np.int64)
        if self.augment and self.num_views > 1:
            views = choices(self.num_views, self.seed, epochs, indices)
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


def code_datasets(folder: str, tokenizer: Path, seed: int) -> tuple[CodeDataset, CodeDataset]:
    """(training, validation) grids of a cache; ValueError if another tokenizer made it, or if it
    is damaged, which the main process finds out first."""
    with this_process().main_process_first():
        train = CodeDataset(folder, "train", seed=seed, augment=True)
        check_tokenizer(folder, train.manifest, tokenizer)
        return train, CodeDataset(folder, "validation")
