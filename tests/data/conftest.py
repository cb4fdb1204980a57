"""Data sets in the formats of their makers, small."""

import gzip
import hashlib
import io
import json
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.config.sections import DataConfig
from tests.conftest import TINY_TOKENIZER, blob
from vqgan.tokenizer import Tokenizer


def make_cifar(root, monkeypatch, per_batch=20):
    """CIFAR-10's own on-disk format. torchvision checks md5 sums, so the small files get sums of
    their own."""
    from torchvision.datasets import CIFAR10

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [
        name.encode()
        for name in [
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ]
    ]

    def write(name, value):
        data = pickle.dumps(value, protocol=2)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch():
        labels = [int(i % 10) for i in range(per_batch)]
        pixels = np.stack(
            [blob(label % 7, rng, 32, 3).transpose(2, 0, 1).reshape(-1) for label in labels]
        )
        return {"data": pixels, "labels": labels}

    train = [write(f"data_batch_{i}", batch()) for i in range(1, 6)]
    meta = write("batches.meta", {"label_names": [name.decode() for name in names]})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch())])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]}
    )
    return root


def make_imagenet(root, classes=("n01440764", "n01443537", "n01484850"), size=80):
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(blob(label, rng, size, 3)).resize((size + 20, size))
                image.save(folder / f"{name}_{i}.JPEG", "JPEG")
    return root


def make_tokenizer(path, levels=(4, 4), seed=0):
    torch.manual_seed(seed)
    tokenizer = Tokenizer(
        image_size=16,
        channels=1,
        **TINY_TOKENIZER,
        quantizer={"name": "fsq", "levels": list(levels)},
    )
    tokenizer.save(path)
    return path


@pytest.fixture
def data(image_folder):
    return DataConfig(
        source={"name": "folder", "root": str(image_folder)}, image_size=16, channels=1, flip=True
    )


def write_idx(path, array):
    data = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_fashion(root, suffix=".gz"):
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.stack([blob(label % 3, rng, 28) for label in labels])
        write_idx(root / f"{prefix}-images-idx3-ubyte{suffix}", pixels)
        write_idx(root / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return root


def make_parquet(root):
    import datasets

    rng = np.random.default_rng(0)
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["bag", "coat"])}
    )
    for split, count in (("train", 12), ("test", 4)):
        rows = {
            "picture": [Image.fromarray(blob(i % 2, rng)) for i in range(count)],
            "kind": [i % 2 for i in range(count)],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / f"{split}.parquet")
    return {"train": str(root / "train.parquet"), "test": str(root / "test.parquet")}


def members(first=0, count=20, suffix="png", label=lambda number: number % 3, json_key=None):
    """(name, bytes) of some samples in webdataset's order."""
    rng = np.random.default_rng(first)
    for number in range(first, first + count):
        picture = io.BytesIO()
        Image.fromarray(blob(number % 3, rng)).save(picture, "JPEG" if "j" in suffix else "PNG")
        yield f"part/{number:06d}.{suffix}", picture.getvalue()
        if json_key is None:
            yield f"part/{number:06d}.cls", str(label(number)).encode()
        else:
            found = {json_key: label(number), "width": 28}
            yield f"part/{number:06d}.json", json.dumps(found).encode()


def write_shard(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in found:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def make_shards(root):
    """Two shards of 20 samples each -> their glob."""
    for number in range(2):
        write_shard(root / f"train-{number}.tar", members(20 * number))
    return str(root / "train-*.tar")
