"""The code-grid cache: a data set tokenised once, memory-mapped ever after.

    codes/manifest.json            what was tokenised, by which tokenizer, how; written last
    codes/train-00000.safetensors  "codes" (rows, views, h, w) in the smallest integer type,
                                   "labels" (rows,), or (rows, n) of a source's own attributes

View 0 is the image, view 1 (of a training split, where the transform flips) its mirror image. The
second stage reads nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskgit.data.datasets import Batch
from maskgit.randomness import choices
from vqgan.health import code_counts, code_share
from vqgan.weights import content_hash

FORMAT = "maskgit-codes-1"


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where shard `number` of a split lies."""
    return folder / f"{split}-{number:05d}.safetensors"


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a cache; FileNotFoundError or ValueError says what to do if there is none."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no code cache in {folder}: make it with "
            f"`maskgit tokenize <tokenizer run> --out {folder}`"
        )
    manifest = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a {FORMAT} manifest: was it written by another program or version?"
        )
    return manifest


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


def _map_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as memory maps.

    8 bytes for the length of the header, the JSON header, then the bytes.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    types = {
        "U8": np.uint8, "U16": np.uint16, "I32": np.int32, "I64": np.int64, "F32": np.float32,
        "F64": np.float64,
    }  # fmt: skip
    return {
        name: np.memmap(
            path,
            types[entry["dtype"]],
            "r",
            8 + length + entry["data_offsets"][0],
            tuple(entry["shape"]),
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


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
            raise FileNotFoundError(f"{missing[0]} is missing: run `maskgit tokenize` again")
        shards = [_map_tensors(path) for path in paths]
        counts = [len(shard["labels"]) for shard in shards]
        if counts != self.manifest["splits"][split]["shards"]:
            raise ValueError(
                f"the shards in {folder} hold {counts} rows, not what its manifest says: "
                "make it again"
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
    """(training, validation) grids of a cache; ValueError if another tokenizer made it."""
    train = CodeDataset(folder, "train", seed=seed, augment=True)
    check_tokenizer(folder, train.manifest, tokenizer)
    return train, CodeDataset(folder, "validation")
