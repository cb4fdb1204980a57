"""Images in folders."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Gt, Lt
from PIL import Image

from maskgit.data.pixels import open_image
from maskgit.data.sources.groups import groups_of, validating, validating_apart
from maskgit.data.sources.listing import Entry, Listing, listing
from maskgit.data.sources.names import Names
from maskgit.data.sources.source import Skipped, Source, natural

TRAIN = ("train", "training")
VALIDATION = ("val", "valid", "validation", "dev", "test")
"""Names of a split's folder, in any case; the first that is there."""
SYSTEM = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found"}
"""What operating systems leave in folders, and everything that begins with a dot."""
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow lists but cannot draw by itself."""


@lru_cache(maxsize=1)
def readable_suffixes() -> frozenset[str]:
    """`.png`, `.jpg`, `.webp`, ...: of all formats that Pillow reads here."""
    known = Image.registered_extensions()  # which loads all plugins
    return frozenset(s for s, kind in known.items() if kind in Image.OPEN.keys() - NO_PICTURES)


class Tree:
    """The images below a folder, each folder once: no link leads upwards or to what is there."""

    def __init__(self, top: Path, skipped: Skipped, listing: Listing | None = None) -> None:
        self.top, self.skipped = top, skipped
        self.listing = Listing() if listing is None else listing
        self.seen = {_identity(path) for path in (top.resolve(), *top.resolve().parents)}
        self.links: list[Path] = []

    def folders(self, folder: Path) -> list[Path]:
        """Those in a folder that may hold data, in natural order; links last, if new."""
        entries = [entry for entry in self._entries(folder) if entry.is_dir()]
        entries.sort(key=lambda entry: (entry.is_symlink(), natural(entry.name)))
        found = [Path(entry) for entry in entries if self._is_new(entry)]
        return sorted(found, key=lambda path: natural(path.name))

    def images(self, folder: Path, deep: bool = True) -> Iterator[Path]:
        """Image files in a folder, and in those below it; files that are no images are noted."""
        for entry in sorted(self._entries(folder), key=lambda entry: entry.name):
            if entry.is_dir():
                continue
            if not entry.is_file():
                kind = "broken links" if entry.is_symlink() else "pipes, sockets and devices"
                self.skipped.add(kind, entry.path)
            elif Path(entry).suffix.lower() in readable_suffixes():
                yield Path(entry)
            else:
                self.skipped.add(f"{Path(entry).suffix or 'unnamed'} files", entry.path)
        for below in sorted(self.folders(folder)) if deep else ():
            yield from self.images(below)

    def _is_new(self, entry: Entry) -> bool:
        """Whether the folder was not read yet, nor is read where it really is."""
        there, found = Path(entry).resolve(), _identity(Path(entry))
        if found in self.seen or (entry.is_symlink() and self.top.resolve() in there.parents):
            self.skipped.add("links to a folder above or already read", entry.path)
            return False
        self.seen.add(found)
        return True

    def _entries(self, folder: Path) -> list[Entry]:
        try:
            entries = self.listing.entries(folder)
        except OSError as error:
            self.skipped.add(f"unreadable folders ({error.strerror})", str(folder))
            return []
        hidden = [e for e in entries if e.name.startswith(".") or e.name.lower() in SYSTEM]
        for entry in hidden:
            self.skipped.add("hidden or system files", entry.path)
        return [entry for entry in entries if entry not in hidden]


def _identity(path: Path) -> tuple[int, int]:
    """Of the folder that a path leads to, by whatever name."""
    found = path.stat()
    return found.st_dev, found.st_ino


def split_folders(tree: Tree, base: Path, split: str) -> dict[str, Path]:
    """split -> its folder, where `base` has them; an error says what is amiss with `split`."""
    by_name: dict[str, list[Path]] = {}
    folders = tree.folders(base)
    for path in folders:
        by_name.setdefault(path.name.lower(), []).append(path)
    wanted = {"train": TRAIN, "validation": VALIDATION}
    found = {
        split: [path for name in names for path in by_name.get(name, ())]
        for split, names in wanted.items()
    }
    if not found["train"]:
        if folders and len(found["validation"]) == len(folders):
            raise FileNotFoundError(f"{base} has {folders[0].name}, but no train folder")
        return {}
    if not found[split]:
        raise FileNotFoundError(
            f"{base} has a train folder but none of {', '.join(VALIDATION)}: add one, or set "
            f"data.source.root={found['train'][0]}, of which a share then validates"
        )
    if len(found["train"]) > 1:
        raise ValueError(f"{base} has both {' and '.join(path.name for path in found['train'])}")
    for path in folders:
        if path not in [paths[0] for paths in found.values() if paths]:
            tree.skipped.add("folders beside the splits", str(path))
    return {split: paths[0] for split, paths in found.items() if paths}


def class_folders(tree: Tree, top: Path) -> dict[str, Path]:
    """class name (NFC) -> its folder, in natural order; ValueError if two have one name."""
    found: dict[str, Path] = {}
    for path in tree.folders(top):
        name = unicodedata.normalize("NFC", path.name)
        if name in found:
            raise ValueError(f"{top} has two folders that are both called {name}: rename one")
        found[name] = path
    return found


def folder(
    split: str,
    *,
    root: str,
    validation_share: Annotated[float, Gt(0), Lt(1)] = 0.05,
    group: str | None = None,
) -> Source:
    """Images in a folder for each class (or all in one folder: a single class).

    With `root/train` and `root/val` (or `valid`, `validation`, `test`, in any case) these are the
    splits; else a share of the files, chosen by the hash of their names, validates. group: a
    regular expression; files in whose names below `root` it (or its part in brackets) finds the
    same text, as frames of one animation, are all in one split.
    """
    base, skipped = Path(root).expanduser(), Skipped()
    if not base.is_dir():
        raise FileNotFoundError(f"no folder {base}: set data.source.root to a folder of images")
    with listing(base) as known:
        return _found(split, base, known, validation_share, group, skipped)


def _found(
    split: str,
    base: Path,
    known: Listing,
    validation_share: float,
    group: str | None,
    skipped: Skipped,
) -> Source:
    splits = split_folders(Tree(base, skipped, known), base, split)
    if splits and group is not None:
        raise ValueError(f"{base} has a train folder: leave out data.source.group, or the folders")
    top = splits.get(split, base)
    classes = _classes(splits.get("train", base), skipped, known)
    if splits and split != "train":
        _check_known(classes, splits, known)
    tree = Tree(top, skipped, known)
    if classes:
        here = class_folders(tree, top)
        labelled = [(label, here[name]) for label, name in enumerate(classes) if name in here]
        files = Files.of((path, label) for label, at in labelled for path in tree.images(at))
        for path in tree.images(top, deep=False):
            skipped.add("images beside the class folders", str(path))
    else:
        classes = [base.resolve().name]
        files = Files.of((path, 0) for path in tree.images(top))
    if not splits:
        if len(files.names) == 1:
            raise ValueError(f"{base} has one image: add another, one trains and one validates")
        relative = (str(Path(name).relative_to(top)) for name in files.names)
        if group is None:
            chosen = validating(relative, validation_share)
        else:
            chosen = validating_apart(groups_of(relative, group), files.labels, validation_share)
        files = files.only([other == (split != "train") for other in chosen])
    return Source(files.image, files.labels, tuple(classes), files.name, skipped)


class Files(NamedTuple):
    """Image files and their labels, as workers of any kind get them."""

    names: Names
    labels: np.ndarray  # (n,) int64

    @classmethod
    def of(cls, found: Iterable[tuple[Path, int]]) -> Files:
        """(path, label) of each; no more than one path at a time is an object."""
        labels = array("q")

        def names() -> Iterator[str]:
            for path, label in found:
                labels.append(label)
                yield str(path)

        return cls(Names(names()), np.array(labels, dtype=np.int64))

    def only(self, chosen: Sequence[bool]) -> Files:
        """Those that are chosen, of all."""
        return Files(Names(compress(self.names, chosen)), self.labels[np.array(chosen, dtype=bool)])

    def image(self, index: int) -> Image.Image:
        """A decoded image."""
        return open_image(self.names[index])

    def name(self, index: int) -> str:
        """Where it lies."""
        return self.names[index]


def _classes(top: Path, skipped: Skipped, known: Listing) -> list[str]:
    """The names of the folders that hold images, for training; others are noted."""
    found = class_folders(Tree(top, Skipped(), known), top)
    full = []
    for name, path in found.items():
        why = Skipped()
        if next(Tree(top, why, known).images(path), None) is None:
            skipped.join([why]).add("class folders without images", str(path))
        else:
            full.append(name)
    return full


def _check_known(classes: list[str], splits: dict[str, Path], known: Listing) -> None:
    """ValueError if the validation folder has classes of its own."""
    train, top = splits["train"], splits["validation"]
    here, there = (class_folders(Tree(at, Skipped(), known), at) for at in (top, train))
    if unknown := [name for name in here if name not in {*classes, *there}]:
        raise ValueError(f"{top} has classes that {train} has not: {', '.join(unknown)}")


def imagenet(split: str, *, root: str = "data/imagenet") -> Source:
    """ImageNet as `root/train/n01440764/*.JPEG` and `root/val/n01440764/*.JPEG`."""
    base = Path(root).expanduser()
    for part in ("train", "val"):
        if not (base / part).is_dir():
            raise FileNotFoundError(
                f"no {base / part}: set data.source.root to ImageNet's folder of train and val"
            )
    return folder(split, root=root)
