"""The text of `maskgit list`, kept from call to call: to make it, every table is imported, and
torch with them, which takes seconds."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import maskgit
import vqgan
from vqgan.files import replacing


def names() -> str:
    """The text that was kept, if no file of ours has changed since; else a new one, which is."""
    place = _cache_folder() / f"list-{_fingerprint()}.txt"
    with suppress(OSError):
        return place.read_text()
    from maskgit.cli.overview import list_tables

    text = list_tables()
    with suppress(OSError):  # of a folder that cannot be written, or a full disk
        place.parent.mkdir(parents=True, exist_ok=True)
        for old in place.parent.glob("list-*.txt"):
            old.unlink(missing_ok=True)
        with replacing(place) as aside:
            aside.write_text(text)
    return text


def _cache_folder() -> Path:
    """As maskgit.machine has it, which imports torch."""
    return Path(os.environ.get("MASKGIT_CACHE") or Path.home() / ".cache" / "maskgit")


def _fingerprint() -> str:
    """Of all files that may name something: another one after any change to them."""
    found = hashlib.sha256()
    for folder in map(_folder, (maskgit, vqgan)):
        for path in sorted(folder.rglob("*.py")):
            stat = path.stat()
            found.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    from maskgit.config.loading import known_configs

    found.update("\n".join(known_configs()).encode())
    return found.hexdigest()[:16]


def _folder(package: object) -> Path:
    return Path(str(getattr(package, "__file__", ""))).parent
