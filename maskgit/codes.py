"""The code-grid cache: a data set tokenised once, memory-mapped ever after.

    codes/manifest.json            what was tokenised, by which tokenizer, how (written last: without it, no cache)
    codes/train-00000.safetensors  "codes" (rows, views, h, w) in the smallest integer type, "labels" (rows,)

View 0 is the image, view 1 (where the transform flips) its mirror image. Training the second stage reads nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from maskgit.data import Batch, ImageDataset, batches
from maskgit.images import to_float
from maskgit.randomness import coins
from vqgan.tokenizer import Tokenizer
from vqgan.weights import replacing, sha256

FORMAT = "maskgit-codes-1"
SHARD_ROWS = 65_536


def smallest_dtype(codebook_size: int) -> np.dtype[Any]:
    """uint8, uint16 or int32: the smallest that holds every code."""
    return np.dtype(np.uint8 if codebook_size <= 2**8 else np.uint16 if codebook_size <= 2**16 else np.int32)


def encode_images(
    tokenizer: Tokenizer, dataset: ImageDataset, indices: Sequence[int], *, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (codes (rows, views, h, w), labels (rows,)) of the plain views; corrupt images are left out."""
    device = next(tokenizer.parameters()).device
    good = _GoodOnly(dataset)
    order = [[(i, 0) for i in indices[start : start + batch_size]] for start in range(0, len(indices), batch_size)]
    for batch in batches(good, order, workers=workers):
        if not len(batch.labels):
            continue
        images = to_float(batch.data.to(device))
        views = [images, images.flip(-1)] if dataset.transform.flip else [images]
        codes = torch.stack([tokenizer.encode(view) for view in views], dim=1)
        yield codes.cpu().numpy(), batch.labels.numpy()


class _GoodOnly:
    """A data set without the replacement of corrupt images: a cache holds each image at most once."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        rows = [(index, pixels) for index, _ in keys if (pixels := self.dataset.read(index)) is not None]
        if not rows:
            return Batch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        labels = self.dataset.source.labels[[index for index, _ in rows]]
        return Batch(torch.from_numpy(np.stack([pixels for _, pixels in rows])), torch.from_numpy(labels))


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where shard `number` of a split lies."""
    return folder / f"{split}-{number:05d}.safetensors"


def write_shard(path: Path, codes: np.ndarray, labels: np.ndarray, codebook_size: int) -> None:
    """Write one shard under a temporary name, then rename it."""
    with replacing(path) as aside:
        save_file({"codes": codes.astype(smallest_dtype(codebook_size)), "labels": labels.astype(np.int64)}, aside)


def describe(tokenizer_path: str | Path, tokenizer: Tokenizer, source: Any, transform: Any) -> dict[str, Any]:
    """The part of a manifest that says which images and which tokenizer; a cache is good only while it is the same."""
    return {
        "format": FORMAT,
        "tokenizer_sha256": sha256(tokenizer_path),
        "codebook_size": tokenizer.codebook_size,
        "source": json.loads(json.dumps(source)),
        "transform": asdict(transform),
    }


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a cache; FileNotFoundError or ValueError says what to do if there is none."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no code cache in {folder}: make it with `maskgit tokenize <tokenizer run> --out {folder}`"
        )
    manifest = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not a {FORMAT} manifest: was it written by another program or version?")
    return manifest


def check_tokenizer(folder: str | Path, manifest: dict[str, Any], tokenizer_path: str | Path) -> None:
    """ValueError if the cache was made by another tokenizer than the weights at `tokenizer_path`."""
    found = sha256(tokenizer_path)
    if manifest["tokenizer_sha256"] != found:
        raise ValueError(
            f"the code cache in {folder} was made by tokenizer {manifest['tokenizer_sha256'][:12]}, but "
            f"{tokenizer_path} is {found[:12]}: make the cache again with `maskgit tokenize --out {folder} --overwrite`"
        )


def _map_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as memory maps (8-byte header length, JSON header, then the bytes)."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    types = {"U8": np.uint8, "U16": np.uint16, "I32": np.int32, "I64": np.int64}
    return {
        name: np.memmap(path, types[entry["dtype"]], "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    }


class CodeDataset:
    """The cached grids of one split. While training, the view is a coin of (seed, epoch, index); else it is view 0."""

    def __init__(self, folder: str | Path, split: str, *, seed: int = 0, augment: bool = False) -> None:
        self.manifest = read_manifest(folder)
        if split not in self.manifest["splits"]:
            raise ValueError(f"the code cache in {folder} has no {split} split: it was not tokenised")
        shards = [
            _map_tensors(shard_path(Path(folder), split, n))
            for n in range(len(self.manifest["splits"][split]["shards"]))
        ]
        counts = [len(shard["labels"]) for shard in shards]
        if counts != self.manifest["splits"][split]["shards"]:
            raise ValueError(f"the shards in {folder} hold {counts} rows, not what its manifest says: make it again")
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
            views = coins(self.seed, epochs, indices).astype(np.int64)
        shards = np.searchsorted(self.starts, indices, side="right") - 1
        grids = np.empty((len(indices), *self.grid), dtype=np.int64)
        for shard in np.unique(shards):
            rows = shards == shard
            grids[rows] = self.codes[shard][indices[rows] - self.starts[shard], views[rows]]
        return Batch(torch.from_numpy(grids), torch.from_numpy(self.labels[indices]))
