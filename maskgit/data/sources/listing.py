"""Listing: what lies in the folders below one, kept for the next process that asks.

A million images are listed once, not by every process of a machine for every split. Of a folder is
believed what was found in it as long as the folder itself has the same date; where links lead to is
looked up anew. What is kept is a file of the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskgit.data.npz import read_npz
from maskgit.data.sources.names import Names
from maskgit.machine import cache_folder, warn_once
from vqgan.files import replacing

KEPT_FROM = 10_000
"""Entries of all folders from which on they are kept: fewer are listed in no time."""
SETTLED = 2_000_000_000
"""Nanoseconds since the date of a folder before its list is kept: it might change again without
another date."""
OTHER, FOLDER, FILE, LINK = range(4)


class Entry(NamedTuple):
    """What os.DirEntry says of something in a folder."""

    folder: str
    name: str
    kind: int

    @property
    def path(self) -> str:
        """Where it lies."""
        return f"{self.folder.removesuffix(os.sep)}{os.sep}{self.name}"

    def __fspath__(self) -> str:
        return self.path

    def is_dir(self) -> bool:
        """Of a link, whether it leads to one."""
        return self.kind == FOLDER or (self.kind == LINK and stat.S_ISDIR(self._leads_to))

    def is_file(self) -> bool:
        """Of a link, whether it leads to one."""
        return self.kind == FILE or (self.kind == LINK and stat.S_ISREG(self._leads_to))

    def is_symlink(self) -> bool:
        """Whether it is a link."""
        return self.kind == LINK

    @property
    def _leads_to(self) -> int:
        """The mode of what a link leads to; 0 for nothing, or round in circles."""
        try:
            return Path(self.path).stat().st_mode
        except OSError:
            return 0


class Found(NamedTuple):
    """The entries of one folder."""

    state: tuple[int, int, int]  # its date, device and number
    names: Names
    kinds: np.ndarray  # (n,) uint8


class Listing:
    """The entries of folders, found or kept."""

    def __init__(self, kept: dict[str, Found] | None = None) -> None:
        self.found = kept or {}
        self.is_new = False

    def entries(self, folder: Path) -> list[Entry]:
        """In no order; OSError if the folder cannot be read."""
        path = str(folder)
        state = _state(path)
        found = self.found.get(path)
        if found is None or found.state != state:
            found = _scan(path, state)
            if time.time_ns() - state[0] > SETTLED:
                self.found[path], self.is_new = found, True
        return [
            Entry(path, name, kind)
            for name, kind in zip(found.names, found.kinds.tolist(), strict=True)
        ]


def _state(path: str) -> tuple[int, int, int]:
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_dev, found.st_ino


def _scan(path: str, state: tuple[int, int, int]) -> Found:
    with os.scandir(path) as entries:
        pairs = [(entry.name, _kind(entry)) for entry in entries]
    kinds = np.array([kind for _, kind in pairs], dtype=np.uint8)
    return Found(state, Names(name for name, _ in pairs), kinds)


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return LINK
    return FOLDER if entry.is_dir() else FILE if entry.is_file() else OTHER


@contextmanager
def listing(root: Path) -> Iterator[Listing]:
    """Of the folders below one; what is new of it is kept in the end."""
    key = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()
    path = cache_folder() / "folders" / f"{key[:24]}.npz"
    here = Listing(_kept(path))
    yield here
    if here.is_new and sum(len(found.kinds) for found in here.found.values()) >= KEPT_FROM:
        try:
            _keep(path, here.found)
        except OSError as error:
            warn_once(f"the list of {root} is not kept for the next time: {error}")


def _kept(path: Path) -> dict[str, Found]:
    """What is kept; nothing if it is not there, or, with a warning, if it is damaged."""
    try:
        arrays = read_npz(path)
        folders = Names.of(arrays["folders"], arrays["folder_ends"])
        names = Names.of(arrays["names"], arrays["ends"])
        states, kinds, stops = arrays["states"].tolist(), arrays["kinds"], arrays["stops"]
        starts = [0, *stops[:-1].tolist()]
        return {
            folder: Found(tuple(state), names.part(start, stop), kinds[start:stop])
            for folder, state, start, stop in zip(
                folders, states, starts, stops.tolist(), strict=True
            )
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        warn_once(f"{path} cannot be read ({error}): folders are listed again")
        return {}


def _keep(path: Path, found: dict[str, Found]) -> None:
    folders, names = Names(found), Names(name for one in found.values() for name in one.names)
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez(
            file,
            folders=folders.data,
            folder_ends=folders.ends,
            states=np.array([one.state for one in found.values()], dtype=np.uint64),
            stops=np.cumsum([len(one.kinds) for one in found.values()]),
            names=names.data,
            ends=names.ends,
            kinds=np.concatenate([one.kinds for one in found.values()]),
        )
