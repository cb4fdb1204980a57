"""What the input parts read: a folder of pictures and a code cache, made for the occasion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from maskgit.benchmark.peers import NUM_CLASSES
from maskgit.data.codes import CodeDataset
from maskgit.data.datasets import ImageDataset, Quarantine
from maskgit.data.manifest import FORMAT, MANIFEST, write_sealed
from maskgit.data.pixels import Transform
from maskgit.data.shards import write_shard
from maskgit.data.sources import load_source
from vqgan.files import sha256

NUM_PICTURES = 512


def picture_folder(root: Path) -> Path:
    """NUM_PICTURES smooth PNG files of 160 x 128 in two classes, in root/train."""
    rng = np.random.default_rng(0)
    for number in range(NUM_PICTURES):
        folder = root / "train" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).resize((160, 128))
        picture.save(folder / f"{number}.png")
    return root


def pictures(root: Path, image_size: int, channels: int) -> ImageDataset:
    """Our input pipeline over that folder, augmented as in training."""
    source = load_source({"name": "folder", "root": str(root)}, "train")
    transform = Transform(image_size, channels, "random", 1.25, True)
    return ImageDataset(source, transform, augment=True, quarantine=Quarantine())


def keys(num_items: int, size: int, count: int) -> list[list[tuple[int, int]]]:
    """Batches of `size` keys, `count` in all, over a data set and over again."""
    return [
        [(i % num_items, 0) for i in range(start, start + size)] for start in range(0, count, size)
    ]


def code_cache(folder: Path, side: int, codebook_size: int, rows: int = 8192) -> CodeDataset:
    """A cache of random codes."""
    rng, shard = np.random.default_rng(0), folder / "train-00000.safetensors"
    codes = rng.integers(0, codebook_size, (rows, 2, side, side))
    write_shard(shard, codes, rng.integers(0, NUM_CLASSES, rows), codebook_size)
    manifest = {
        "format": FORMAT,
        "tokenizer_sha256": "",
        "codebook_size": codebook_size,
        "source": "random codes",
        "class_names": [str(label) for label in range(NUM_CLASSES)],
        "transform": {},
        "splits": {"train": {"shards": [rows], "skipped": 0}},
        "sha256": {shard.name: sha256(shard)},
    }
    write_sealed(folder / MANIFEST, manifest)
    return CodeDataset(folder, "train", augment=True)
