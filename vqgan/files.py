"""Files that are whole or as they were, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

_setting = threading.Lock()
TEMPORARY = ".tmp-"
"""What the name of a file or folder begins with while it is written."""


def is_temporary(path: str | Path) -> bool:
    """Whether its name is that of something half written, or left by a kill."""
    return Path(path).name.startswith(TEMPORARY)


def temporary(path: Path) -> Path:
    """Where `path` is written until it is whole: beside it, on the same disk."""
    return path.with_name(f"{TEMPORARY}{path.name}")


@contextmanager
def replacing(path: str | Path, *, flushed: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, flushed and renamed to it when the block ends well.

    Whatever moment a process is killed at, `path` is the whole old file or the whole new one; not
    flushed, this does not hold where the machine itself fails. If the block fails, the temporary
    file is removed. OSError names `path` if the disk is full.
    """
    path = Path(path)
    aside = temporary(path)
    with naming_what_is_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            share(aside)
            if flushed:
                flush(aside)
            os.replace(aside, path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise


@contextmanager
def naming_what_is_full(path: Path) -> Iterator[None]:
    """OSError, in a line of `path` and what is free there, if what is written finds no room."""
    try:
        yield
    except SafetensorError as error:  # which reports the disk's errors as its own
        if "os error" not in str(error):
            raise
        raise OSError(_no_room(path, str(error))) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(error.errno, _no_room(path, os.strerror(error.errno))) from error


def _no_room(path: Path, reason: str) -> str:
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path} cannot be written ({reason}; {free / 2**20:.2f} MiB are free): make room there, "
        "then the same command goes on"
    )


def append(path: Path, line: str) -> None:
    """Add a line to a file; OSError names it if the disk is full."""
    with naming_what_is_full(path), open(path, "a") as file:
        file.write(f"{line}\n")


def flush(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share(path: Path) -> None:
    """Give a file the mode that the umask asks for: libraries make some that nobody else reads."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    """Read where threads may ask at once; elsewhere it must be set to be known."""
    with suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    with _setting:
        mask = os.umask(0)
        os.umask(mask)
    return mask


def sha256(path: str | Path) -> str:
    """The hash of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clean(folder: Path) -> None:
    """Remove the temporary files and folders that a kill left in a folder, and safetensors' own."""
    for path in folder.glob(".tmp*"):
        if is_temporary(path) or len(path.name) == len(".tmp") + 6:
            remove(path)


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
