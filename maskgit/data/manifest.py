"""The manifest of a code cache: JSON with a hash of itself, so that nothing changes unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vqgan.files import replacing

FORMAT = "maskgit-codes-1"
MANIFEST = "manifest.json"
WHERE = ("source", "times")
"""Of what a cache is made of, what no code depends on."""
SEAL = "seal"
"""The key of the hash of all other values."""


class DamagedError(ValueError):
    """A file of a cache is not as it was written; tokenising again makes it again."""


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with a hash of its values."""
    with replacing(path) as aside:
        aside.write_text(json.dumps({**values, SEAL: _seal(values)}, indent=1) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, or a file of version 0.1, which had no seal; else DamagedError."""
    found = _read(path)
    if not _is_as_written(found):
        raise DamagedError(f"{path} is damaged (it is not as it was written)")
    return _values(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
    if not isinstance(found, dict):
        raise DamagedError(f"{path} is damaged (it holds no mapping)")
    return found


def _is_as_written(found: Mapping[str, Any]) -> bool:
    is_old = not found.keys() & {SEAL, "files", "sha256"}
    return is_old or found.get(SEAL) == _seal(_values(found))


def _values(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != SEAL}


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a cache; FileNotFoundError or ValueError says what to do if there is none."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"no code cache in {folder}: make it with "
            f"`maskgit tokenize <tokenizer run> --out {folder}` (for one that was imported also "
            "--config, of the images, such as imagenet256/vqgan)"
        )
    try:
        found = _read(path)
        if found.get("format") == FORMAT:
            _check_fields(path, found)
            return read_sealed(path)
    except DamagedError as error:
        raise DamagedError(f"{error}: {again(folder)}") from error
    kind = ValueError if _is_of_others(path, found) else DamagedError
    raise kind(
        f"{path} is not a {FORMAT} manifest: was it written by another program or version? "
        f"Choose another folder, or {anew(folder)}"
    )


def _is_of_others(path: Path, found: Mapping[str, Any]) -> bool:
    """Whether a manifest is whole and of another version, or lies where there are no codes."""
    is_version = "format" in found and _is_as_written(found)
    return is_version or (bool(found) and not any(path.parent.glob("*-[0-9]*.safetensors")))


def _check_fields(path: Path, found: Mapping[str, Any]) -> None:
    for key, fits in FIELDS.items():
        if not fits(found.get(key)):
            said = repr(found[key])[:80] if key in found else "missing"
            raise DamagedError(f"{path} is damaged ({key}: {said})")


def content_of(manifest: Mapping[str, Any]) -> str:
    """A hash of a cache's content, wherever it and its images lie; "" if it has no hashes."""
    if "sha256" not in manifest:
        return ""
    return _seal({key: value for key, value in manifest.items() if key not in WHERE})


def again(folder: str | Path) -> str:
    """The command that makes damaged parts of a cache anew."""
    return f"`maskgit tokenize <tokenizer run> --out {folder}` makes again what is damaged"


def anew(folder: str | Path) -> str:
    """The command that makes a cache of what is there now."""
    return f"make it anew with `maskgit tokenize <tokenizer run> --out {folder} --overwrite`"


def _are_splits(value: Any) -> bool:
    """{split: {"shards": [rows, ...], "skipped": n}}."""
    return isinstance(value, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("skipped"), int)
        and isinstance(entry.get("shards"), list)
        and all(isinstance(rows, int) and rows > 0 for rows in entry["shards"])
        for entry in value.values()
    )


FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "tokenizer_sha256": lambda value: isinstance(value, str),
    "codebook_size": lambda value: isinstance(value, int) and 0 < value < 2**31,
    "codes_per_cell": lambda value: value is None or (isinstance(value, int) and value > 0),
    "source": lambda value: value is not None,
    "class_names": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "transform": lambda value: isinstance(value, dict),
    "splits": _are_splits,
    "sha256": lambda value: value is None or isinstance(value, dict),
}
"""What the values of a manifest are like; those that may be none may be missing."""
