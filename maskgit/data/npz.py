"""ADM's sample files (.npz): read without unpickling, and written a batch at a time."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from maskgit.data.alpha import WITH_ALPHA, straight
from vqgan.files import replacing

MOST_PACKED, UNPACKED = 200, 2**26
"""How many times larger an array may get by unpacking, if it gets larger than so many bytes."""


def open_array(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """(shape, dtype, where the data starts) of a .npy stream; ValueError if it holds objects."""
    try:
        version = npy.read_magic(file)  # type: ignore[no-untyped-call]
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)  # type: ignore[no-untyped-call]
    except (ValueError, SyntaxError, TokenError) as error:
        raise ValueError(f"{name} is not a .npy array: {error}") from error
    if dtype.hasobject or fortran:
        raise ValueError(f"{name} holds Python objects or Fortran order, which are not read")
    return shape, dtype, file.tell()


def npz_arrays(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of an .npz file's arrays; ValueError if it is none.

    All that they claim is there: an array has the bytes of its shape, and no bomb is unpacked.
    """
    with reading_npz(path), zipfile.ZipFile(path) as archive:
        shapes: dict[str, tuple[int, ...]] = {}
        for entry in archive.infolist():
            name, where = (
                entry.filename.removesuffix(".npy"),
                f"{path}: {' '.join(entry.filename.split())}",
            )
            if name in shapes or name == entry.filename:
                raise ValueError(f"{where} is no array of its own (a name twice, or no .npy)")
            with archive.open(entry) as file:
                shape, dtype, start = open_array(file, where)
            _check_size(entry, where, start + math.prod(shape) * dtype.itemsize)
            shapes[name] = shape
        return shapes


def _check_size(entry: zipfile.ZipInfo, where: str, wanted: int) -> None:
    if entry.file_size != wanted:
        raise ValueError(f"{where} has {entry.file_size} bytes, by its shape {wanted}")
    if entry.file_size > max(UNPACKED, MOST_PACKED * entry.compress_size):
        raise ValueError(
            f"{where} unpacks {entry.compress_size} bytes to {entry.file_size}: "
            f"no pictures shrink to less than a {MOST_PACKED}th"
        )


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name; ValueError if it is damaged, or none."""
    npz_arrays(path)
    with reading_npz(path), np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@contextmanager
def reading_npz(path: str | Path) -> Iterator[None]:
    """ValueError, in a line, for whatever a damaged or strange archive leads to inside."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is not an .npz file that can be read: {error}") from error


def write_npz(
    path: Path, batches: Iterable[Tensor], shape: tuple[int, ...], labels: Sequence[int]
) -> Path:
    """ADM's sample file: arr_0 (n, height, width, 3), grey repeated, and arr_1, the labels.

    RGBA has 4 columns, and straight colours.

    batches: uint8 (m, c, h, w), of which one is in memory; shape: (n, c, h, w) of them all.
    """
    count, channels, height, width = shape
    columns = max(3, channels)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, columns)}
    with replacing(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            npy.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            for images in batches:
                rows = images.cpu().expand(-1, columns, -1, -1).movedim(1, -1).numpy()
                file.write((straight(rows) if channels == WITH_ALPHA else rows).tobytes())
        with archive.open("arr_1.npy", "w") as file:
            numbers = np.array(labels, dtype=np.int64)
            npy.write_array(file, numbers, allow_pickle=False)  # type: ignore[no-untyped-call]
    return path
