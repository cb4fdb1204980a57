"""Data sets in the formats of their makers, small."""

import hashlib
import pickle

import numpy as np
from PIL import Image

from tests.conftest import blob


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
