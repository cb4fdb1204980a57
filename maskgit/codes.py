"""The code-grid cache: a data set tokenised once, memory-mapped ever after.

    codes/manifest.json            what was tokenised, by which tokenizer, how (written last: without it, no cache)
    codes/train-00000.safetensors  "codes" (rows, views, h, w) in the smallest integer type, "labels" (rows,)

View 0 is the image, view 1 (of a training split, where the transform flips) its mirror image. The second stage reads
nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from maskgit.data import Batch, ImageDataset, batches
from maskgit.images import MIRRORED, PLAIN, Transform, to_float
from maskgit.randomness import choices
from maskgit.sources import Source
from vqgan.files import replacing
from vqgan.tokenizer import Tokenizer
from vqgan.weights import content_hash

FORMAT = "maskgit-codes-1"
SHARD_ROWS = 8192
"""Rows of a shard: what a process tokenises at a time, and what an interrupted call does again at most."""


def smallest_dtype(codebook_size: int) -> np.dtype[Any]:
    """uint8, uint16 or int32: the smallest that holds every code."""
    return np.dtype(np.uint8 if codebook_size <= 2**8 else np.uint16 if codebook_size <= 2**16 else np.int32)


class Views:
    """The images of a data set in all their views, for a cache: an image at most once, corrupt ones left out."""

    def __init__(self, dataset: ImageDataset, *, training: bool = True) -> None:
        self.dataset = dataset
        self.draws = [PLAIN, MIRRORED] if training and dataset.transform.flip else [PLAIN]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """-> images: (good ones, views, channels, height, width) uint8, and their labels."""
        rows = [(index, [self.dataset.read(index, np.array(draws)) for draws in self.draws]) for index, _ in keys]
        good = [(index, np.stack(views)) for index, views in rows if views[0] is not None]  # type: ignore[arg-type]
        if not good:
            return Batch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        labels = self.dataset.source.labels[[index for index, _ in good]]
        return Batch(torch.from_numpy(np.stack([views for _, views in good])), torch.from_numpy(labels))


def encode_images(
    tokenizer: Tokenizer, views: Views, indices: Sequence[int], *, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (codes (rows, views, h, w), labels (rows,))."""
    device = next(tokenizer.parameters()).device
    size = max(1, batch_size // len(views.draws))
    order = [[(i, 0) for i in indices[start : start + size]] for start in range(0, len(indices), size)]
    for batch in batches(views, order, workers=workers):
        if len(batch.labels):
            codes = tokenizer.encode(to_float(batch.data.to(device).flatten(0, 1)))
            yield codes.unflatten(0, batch.data.shape[:2]).cpu().numpy(), batch.labels.numpy()


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where shard `number` of a split lies."""
    return folder / f"{split}-{number:05d}.safetensors"


def write_shard(path: Path, codes: np.ndarray, labels: np.ndarray, codebook_size: int) -> None:
    """Write one shard under a temporary name, then rename it."""
    with replacing(path) as aside:
        save_file({"codes": codes.astype(smallest_dtype(codebook_size)), "labels": labels.astype(np.int64)}, aside)


def describe(
    tokenizer_path: str | Path, tokenizer: Tokenizer, spec: Any, sources: Mapping[str, Source], transform: Transform
) -> dict[str, Any]:
    """The part of a manifest that says which images and which tokenizer; a cache is good only while it is the same.

    spec: how the config names the data source; sources: split -> what was found there.
    """
    return {
        "format": FORMAT,
        "tokenizer_sha256": content_hash(tokenizer_path, "tokenizer"),
        "codebook_size": tokenizer.codebook_size,
        **({"codes_per_cell": tokenizer.codes_per_cell} if tokenizer.codes_per_cell > 1 else {}),
        "source": json.loads(json.dumps(spec)),
        "images": {split: len(source.labels) for split, source in sources.items()},
        "class_names": list(next(iter(sources.values())).class_names),
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
    found = content_hash(tokenizer_path, "tokenizer")
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
    """The cached grids of one split. In training the view is a function of (seed, epoch, index), else it is view 0."""

    def __init__(self, folder: str | Path, split: str, *, seed: int = 0, augment: bool = False) -> None:
        self.manifest = read_manifest(folder)
        if split not in self.manifest["splits"]:
            raise ValueError(f"the code cache in {folder} has no {split} split: it was not tokenised")
        paths = [shard_path(Path(folder), split, n) for n in range(len(self.manifest["splits"][split]["shards"]))]
        if missing := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(f"{missing[0]} is missing: run `maskgit tokenize` again")
        shards = [_map_tensors(path) for path in paths]
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
            views = choices(self.num_views, self.seed, epochs, indices)
        shards = np.searchsorted(self.starts, indices, side="right") - 1
        grids = np.empty((len(indices), *self.grid), dtype=np.int64)
        for shard in np.unique(shards):
            rows = shards == shard
            grids[rows] = self.codes[shard][indices[rows] - self.starts[shard], views[rows]]
        return Batch(torch.from_numpy(grids), torch.from_numpy(self.labels[indices]))


def code_datasets(folder: str, tokenizer: Path, seed: int) -> tuple[CodeDataset, CodeDataset]:
    """(training, validation) grids of a code cache; ValueError if another tokenizer than this file made it."""
    train = CodeDataset(folder, "train", seed=seed, augment=True)
    check_tokenizer(folder, train.manifest, tokenizer)
    return train, CodeDataset(folder, "validation")
