"""Images in folders."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from maskgit.data.pixels import open_image
from maskgit.data.sources.source import Source


def folder(split: str, *, root: str, validation_share: float = 0.05) -> Source:
    """Images in a folder for each class (or all in one folder: a single class).

    With `root/train` and `root/val` (or `validation`, `test`) these are the splits; else a share of
    the files, chosen by the hash of their names, validates.
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
            raise ValueError(
                f"{top} has classes that {classes_from} has not: {', '.join(sorted(unknown))}"
            )
        present = {name: index for name, index in class_to_index.items() if (top / name).is_dir()}
        files = (
            make_dataset(str(top), present, extensions=IMG_EXTENSIONS, allow_empty=True)
            if present
            else []
        )
    else:
        class_names = [base.name]
        files = [
            (str(path), 0)
            for path in sorted(top.iterdir())
            if path.suffix.lower() in IMG_EXTENSIONS
        ]
    if not has_splits:

        def validates(path: str) -> bool:
            """Whether the hash of its name says so."""
            name = str(Path(path).relative_to(top))
            return zlib.crc32(name.encode()) % 10_000 < validation_share * 1e4

        files = [item for item in files if validates(item[0]) == (split == "validation")]
    paths = [path for path, _ in files]
    labels = np.array([label for _, label in files], dtype=np.int64)
    return Source(
        lambda index: open_image(paths[index]),
        labels,
        tuple(class_names),
        lambda index: paths[index],
    )


def imagenet(split: str, *, root: str = "data/imagenet") -> Source:
    """ImageNet as `root/train/n01440764/*.JPEG` and `root/val/n01440764/*.JPEG`."""
    for part in ("train", "val"):
        if not (Path(root) / part).is_dir():
            raise FileNotFoundError(
                f"no {Path(root) / part}: set data.source.root to ImageNet's folder of train and "
                "val"
            )
    return folder(split, root=root)
