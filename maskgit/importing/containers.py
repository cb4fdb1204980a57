"""What a file is, told by its first bytes and never by its name."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from torch.serialization import MAGIC_NUMBER

LEGACY = b"\x80\x02\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"."
"""How a file of torch before 1.6 begins: its magic number, pickled."""
FETCH = "download it again"
WRONG = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (rb"(?i)\s*<(!doctype html|html|head)", "a web page, as a failed download leaves it", FETCH),
    (rb"\s*<", "XML text, as a refused download leaves it", FETCH),
    (rb"\s*[\[{]", "JSON text, not weights", "give the file of the weights"),
    (rb"\x1f\x8b|\xfd7zXZ|7z\xbc\xaf|BZh|\x28\xb5\x2f\xfd", "a compressed file", "unpack it first"),
    (rb"\x89HDF", "HDF5, as Keras writes it", "give the file for PyTorch or flax"),
    (rb"\x93NUMPY", "an array of numpy", "give a file of named tensors"),
    (rb"GGUF", "GGUF", "give the file for PyTorch"),
    (rb"\x80[\x02-\x05]", "a pickle that torch.save did not write", "save it by torch.save"),
    (rb"(?s)(?=.{257}ustar)", "a tar archive", "unpack it first"),
    (rb"[\t\n\r -~]{16}", "text, not weights", FETCH),
)
"""(what a file begins with, what that is, what to do)."""


def container_of(path: Path) -> str:
    """`safetensors`, `torch`, `torch legacy` or `msgpack`; ValueError, which says what the file
    looks like and what to do, if it is none of them."""
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path} is empty: {FETCH}")
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{" and (length := int.from_bytes(head[:8], "little")) < 2**32:
        if length + 8 > size:
            raise ValueError(f"{path} is safetensors, cut short in its header: {FETCH}")
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return _zip_of(path)
    if head.startswith(LEGACY):
        return "torch legacy"
    for begin, what, do in WRONG:
        if re.match(begin, head):
            raise ValueError(f"{path} ({size:,} bytes) is {what}: {do}")
    if 0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF):
        return "msgpack"
    raise ValueError(
        f"{path} ({size:,} bytes) is no weights file that is known (safetensors, torch, "
        f"flax msgpack): it begins with {head[:8].hex(' ')}"
    )


def _zip_of(path: Path) -> str:
    """`torch`, which is a zip of uncompressed records beside a data.pkl."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except zipfile.BadZipFile:
        raise ValueError(
            f"{path} is cut short or damaged: a torch file without its end, "
            f"{path.stat().st_size:,} bytes: {FETCH}"
        ) from None
    names = {record.filename.rpartition("/")[2] for record in records}
    if "constants.pkl" in names:
        raise ValueError(f"{path} is a TorchScript program: give the file of the plain weights")
    if "data.pkl" not in names:
        raise ValueError(f"{path} is a zip archive, not weights: unpack it first")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError(f"{path} is a torch file compressed anew: unpack and zip it with -0")
    return "torch"
