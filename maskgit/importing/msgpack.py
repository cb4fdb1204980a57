"""Checkpoints of flax: a msgpack map of maps whose leaves are arrays, read without flax or jax."""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

NAMES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 "
    "float16 bfloat16 float32 float64 complex64 complex128"
)
DTYPES = {name: getattr(torch, name) for name in NAMES.split()}
ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Flax's types of msgpack extension."""
MAX_DEPTH, MAX_ITEMS = 32, 1_000_000
CHUNKED = "__msgpack_chunked_array__"


class Span(NamedTuple):
    """Bytes of the file that are not read yet."""

    start: int
    size: int


class Packed(NamedTuple):
    """An array in the file that is not read yet."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    span: Span


def load_msgpack(path: Path) -> dict[str, Any]:
    """Nested dicts of tensors; other leaves are as msgpack has them.

    Arrays that lie at a multiple of their item size are views of the mapped file, others are read
    into memory once. ValueError if the file is cut, or not flax's.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            tree = _Reader(file, size).root()
            mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
            return _unpacked(tree, file, mapped)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no msgpack of flax that can be read: {error}") from None


class _Reader:
    """The structure of a msgpack file; the bytes of arrays are passed over."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.items = file, size, 0

    def root(self) -> dict[str, Any]:
        """The map that is the whole file."""
        tree = self.value()
        if not isinstance(tree, dict):
            raise ValueError("it holds no map of names")
        if self.file.tell() != self.size:
            raise ValueError(f"{self.size - self.file.tell():,} bytes follow its end")
        return tree

    def take(self, count: int) -> bytes:
        """The next bytes, all of them."""
        self.enough(count)
        return self.file.read(count)

    def number(self, form: str) -> Any:
        """A big-endian number of this struct format."""
        return struct.unpack(f">{form}", self.take(struct.calcsize(form)))[0]

    def enough(self, count: int) -> None:
        """ValueError if the file ends before."""
        if count > self.size - self.file.tell():
            raise ValueError(
                f"cut short: {count:,} bytes should follow byte {self.file.tell():,} of "
                f"{self.size:,}; download it again"
            )

    def span(self, count: int) -> Span:
        """The next bytes, passed over."""
        self.enough(count)
        start = self.file.tell()
        self.file.seek(count, 1)
        return Span(start, count)

    def value(self, depth: int = 0) -> Any:
        """The next value, with all that is in it."""
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        self.items += 1
        if self.items > MAX_ITEMS:
            raise ValueError(f"it holds more than {MAX_ITEMS:,} values")
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first < 0x90:
            return self.mapping(first & 15, depth)
        if first < 0xA0:
            return self.sequence(first & 15, depth)
        if first < 0xC0:
            return self.text(first & 31)
        if first not in FORMS:
            raise ValueError(f"byte {self.file.tell() - 1:,} is no msgpack")
        read, form = FORMS[first]
        return read(self, form, depth)

    def mapping(self, count: int, depth: int) -> dict[str, Any]:
        """Keys are texts, each once."""
        self.enough(2 * count)
        out: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in out:
                raise ValueError(f"the key {key!r} is no text, or there twice")
            out[key] = self.value(depth + 1)
        return out

    def sequence(self, count: int, depth: int) -> list[Any]:
        """Values in their order."""
        self.enough(count)
        return [self.value(depth + 1) for _ in range(count)]

    def text(self, count: int) -> str:
        """UTF-8."""
        return self.take(count).decode()

    def extension(self, count: int, depth: int) -> Any:
        """An array, a scalar as an array without axes, or a complex number."""
        kind = self.number("b")
        self.enough(count)
        end = self.file.tell() + count
        inner = self.value(depth + 1) if kind in (ARRAY, COMPLEX, SCALAR) else None
        if self.file.tell() != end or not isinstance(inner, list):
            raise ValueError(f"the extension of type {kind} before byte {end:,} is not flax's")
        if kind != COMPLEX:
            return self.packed(inner, end)
        if len(inner) != 2 or not all(isinstance(part, float) for part in inner):
            raise ValueError(f"the complex number before byte {end:,} is not two numbers")
        return complex(*inner)

    def packed(self, inner: list[Any], end: int) -> Packed:
        """[shape, name of the dtype, bytes], ending there."""
        if len(inner) != 3 or not isinstance(inner[0], list) or not isinstance(inner[2], Span):
            raise ValueError(f"the array before byte {end:,} is not [shape, dtype, bytes]")
        shape, name, data = inner
        if isinstance(name, Span):
            self.file.seek(name.start)
            name = self.file.read(min(name.size, 32)).decode()
            self.file.seek(end)
        if name not in DTYPES:
            raise ValueError(f"the dtype {name!r} of the array before byte {end:,} is not known")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the shape {shape} of the array before byte {end:,} is none")
        if prod(shape) * DTYPES[name].itemsize != data.size:
            raise ValueError(
                f"the array before byte {end:,} has {data.size:,} bytes, and its shape "
                f"{tuple(shape)} of {name} takes {prod(shape) * DTYPES[name].itemsize:,}"
            )
        return Packed(tuple(shape), DTYPES[name], data)


FORMS: dict[int, tuple[Callable[[_Reader, str, int], Any], str]] = {
    0xC0: (lambda r, f, d: None, ""),
    0xC2: (lambda r, f, d: False, ""),
    0xC3: (lambda r, f, d: True, ""),
    **{0xC4 + i: (lambda r, f, d: r.span(r.number(f)), form) for i, form in enumerate("BHI")},
    **{0xC7 + i: (lambda r, f, d: r.extension(r.number(f), d), f) for i, f in enumerate("BHI")},
    **{0xCA + i: (lambda r, f, d: r.number(f), form) for i, form in enumerate("fdBHIQbhiq")},
    **{0xD4 + i: (lambda r, f, d: r.extension(int(f), d), str(1 << i)) for i in range(5)},
    **{0xD9 + i: (lambda r, f, d: r.text(r.number(f)), form) for i, form in enumerate("BHI")},
    **{0xDC + i: (lambda r, f, d: r.sequence(r.number(f), d), form) for i, form in enumerate("HI")},
    **{0xDE + i: (lambda r, f, d: r.mapping(r.number(f), d), form) for i, form in enumerate("HI")},
}
"""First byte -> how the value goes on: (reader, format or length, depth) -> value."""


def _unpacked(tree: Any, file: BinaryIO, mapped: Tensor) -> Any:
    """The same tree with tensors in it; arrays in chunks are put together."""
    if isinstance(tree, Packed):
        return _tensor(tree, file, mapped)
    if not isinstance(tree, dict):
        return tree
    if CHUNKED in tree:
        return _joined(tree, file)
    return {key: _unpacked(value, file, mapped) for key, value in tree.items()}


def _tensor(packed: Packed, file: BinaryIO, mapped: Tensor) -> Tensor:
    """A view of the mapped file where it may be one."""
    start, size = packed.span
    if start % packed.dtype.itemsize == 0:
        return mapped[start : start + size].view(packed.dtype).reshape(packed.shape)
    out = torch.empty(packed.shape, dtype=packed.dtype)
    _read_into(out, packed.span, file)
    return out


def _read_into(out: Tensor, span: Span, file: BinaryIO) -> None:
    """Fill a contiguous tensor with bytes of the file."""
    file.seek(span.start)
    file.readinto(out.reshape(-1).view(torch.uint8).numpy())  # type: ignore[attr-defined]


def _joined(tree: dict[str, Any], file: BinaryIO) -> Tensor:
    """An array that flax has cut into chunks, as it does above 1 GiB."""
    shape = [_of(tree, "shape", str(i), int) for i in range(len(tree.get("shape", ())))]
    chunks = [_of(tree, "chunks", str(i), Packed) for i in range(len(tree.get("chunks", ())))]
    if not chunks or prod(shape) != sum(prod(chunk.shape) for chunk in chunks):
        raise ValueError(f"chunks of an array do not fill its shape {tuple(shape)}")
    out = torch.empty(shape, dtype=chunks[0].dtype)
    flat, at = out.reshape(-1), 0
    for chunk in chunks:
        if chunk.dtype != out.dtype:
            raise ValueError("chunks of an array differ in dtype")
        _read_into(flat[at : at + prod(chunk.shape)], chunk.span, file)
        at += prod(chunk.shape)
    return out


def _of(tree: dict[str, Any], name: str, key: str, kind: type) -> Any:
    """Part of a list that flax has written as a map; ValueError if it is not there."""
    part = tree[name].get(key) if isinstance(tree.get(name), dict) else None
    if type(part) is not kind:
        raise ValueError(f"{name} of an array in chunks has no part {key!r}")
    return part
