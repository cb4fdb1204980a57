"""Files that are whole or as they were, and their hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, flushed and renamed to it when the block ends well.

    Whatever moment a process is killed at, `path` is the whole old file or the whole new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".tmp-{path.name}")
    yield aside
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)


def sha256(path: str | Path) -> str:
    """The hash of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
