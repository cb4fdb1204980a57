"""One file of a code cache: written whole, with a proof of what is in it; read as a memory map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from maskgit.data.manifest import again
from vqgan.files import replacing

DTYPES = {
    "U8": np.uint8, "U16": np.uint16, "I32": np.int32, "I64": np.int64, "F32": np.float32,
    "F64": np.float64,
}  # fmt: skip
PROOF = "maskgit"
"""The key of a shard's metadata; a second one would be written in any order."""


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where shard `number` of a split lies."""
    return folder / f"{split}-{number:05d}.safetensors"


def begun_path(shard: Path) -> Path:
    """Where the first rows of a shard wait for the rest, after a stop."""
    return shard.with_suffix(".begun.safetensors")


def smallest_dtype(codebook_size: int) -> np.dtype[Any]:
    """uint8, uint16 or int32: the smallest that holds every code."""
    return np.dtype(
        np.uint8 if codebook_size <= 2**8 else np.uint16 if codebook_size <= 2**16 else np.int32
    )


def write_shard(
    path: Path,
    codes: np.ndarray,
    labels: np.ndarray,
    codebook_size: int,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write one shard under a temporary name, then rename it. about: kept for `proof_of`."""
    tensors = {"codes": codes.astype(smallest_dtype(codebook_size)), "labels": labels}
    proof = {**(about or {})}
    proof["content"] = _digest(tensors, proof)
    with replacing(path) as aside:
        save_file(tensors, aside, {PROOF: json.dumps(proof, sort_keys=True)})


def proof_of(path: Path) -> dict[str, str]:
    """What a shard was written with as `about`; empty if it is not there, or not as written."""
    try:
        with safe_open(path, "np") as file:
            proof = json.loads((file.metadata() or {}).get(PROOF, "{}"))
        content = proof.pop("content", None) if isinstance(proof, dict) else None
        whole = content is not None and content == _digest(load_file(path), proof)
    except (FileNotFoundError, SafetensorError, ValueError, RecursionError):
        return {}
    return proof if whole else {}


def _digest(tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """ "codes" and "labels" of a shard as memory maps; ValueError if it has none that fit.

    8 bytes for the length of the header, the JSON header, then the bytes.
    """
    try:
        with safe_open(path, "np"):  # which checks lengths and places
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): {again(path.parent)}") from error
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    if not _is_a_shard(header):
        raise ValueError(f"{path} is damaged (no codes and labels): {again(path.parent)}")
    return {
        name: np.memmap(
            path,
            DTYPES[entry["dtype"]],
            "r",
            8 + length + entry["data_offsets"][0],
            tuple(entry["shape"]),
        )
        for name, entry in header.items()
    }


def _is_a_shard(header: Mapping[str, Any]) -> bool:
    """Whether it has codes and labels of as many rows, in types that are known."""
    if header.keys() != {"codes", "labels"}:
        return False
    codes, labels = header["codes"]["shape"], header["labels"]["shape"]
    known = all(entry["dtype"] in DTYPES for entry in header.values())
    return known and len(codes) == 4 and 0 not in codes and labels[:1] == codes[:1]
