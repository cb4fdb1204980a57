"""One value of a parquet file's column, from the page that it lies in, without what is around it.

The libraries read whole row groups, of which a random image is a hundredth. Here the headers of the
pages are read once, and then one page for each image, of which only the value itself is touched
where pages are not compressed (images are not, as `datasets` writes them).

Format: https://parquet.apache.org/docs/file-format/data-pages/, of byte arrays that do not repeat.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CODECS = ("uncompressed", "snappy", "gzip", "brotli", "zstd")
PLAIN, DICTIONARY, RLE = 0, (2, 8), 3
DATA, DICTIONARY_PAGE, DATA_V2 = 0, 2, 3
"""Types of pages; others, as indices, are passed over."""
DAMAGED = IndexError, KeyError, TypeError, OverflowError, struct.error


class UnknownLayoutError(ValueError):
    """A column that is written in a way that is not read here; the libraries may read it."""


class Page(NamedTuple):
    """Where a page lies and how it is written."""

    first: int  # row of its first value
    values: int  # how many it has
    begin: int  # of its bytes in the file, after the header
    stored: int  # their number there
    unpacked: int  # and without compression
    levels: int  # bytes of levels that come first; -1: their number comes before them
    codec: int  # of CODECS
    encoding: int
    depth: int  # the definition level of a value that is not null
    dictionary: int  # number of its dictionary, -1 for none


class Pages(NamedTuple):
    """Of one column of one file, as arrays that workers of any kind are sent."""

    pages: np.ndarray  # (n, 10) int64, each a Page
    dictionaries: np.ndarray  # (m, 10) int64

    def value(self, path: str | Path, row: int) -> bytes | None:
        """The bytes of a row of the file, none for null.

        ValueError or OSError if it is not the file any more that it was, or damaged.
        """
        page = Page(*self.pages[np.searchsorted(self.pages[:, 0], row, "right") - 1].tolist())
        with open(path, "rb", buffering=0) as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            return self._value(data, page, row - page.first)
        except DAMAGED as error:
            raise ValueError(f"a page of {path} is damaged: {error}") from error

    def _value(self, data: memoryview, page: Page, index: int) -> bytes | None:
        levels, values = contents(data, page)
        if page.depth:
            there = hybrid(levels, page.depth.bit_length(), page.values) == page.depth
            if not there[index]:
                return None
            index = int(there[:index].sum())
        if page.encoding != PLAIN:
            index = int(hybrid(values[1:], values[0], index + 1)[index])
            values = contents(data, Page(*self.dictionaries[page.dictionary].tolist()))[1]
        return plain(values, index)


def contents(data: memoryview, page: Page) -> tuple[memoryview, memoryview]:
    """(levels, values) without compression; views of the file where there is none."""
    body = data[page.begin : page.begin + page.stored]
    if len(body) < page.stored:
        raise IndexError("the file ends before it")
    first = max(0, page.levels)
    levels, body = body[:first], body[first:]
    if page.codec:
        import pyarrow as pa

        size = page.unpacked - first
        body = memoryview(pa.Codec(CODECS[page.codec]).decompress(body, size, asbytes=True))
    if page.levels < 0 and page.depth:
        size = struct.unpack_from("<I", body)[0]
        levels, body = body[4 : 4 + size], body[4 + size :]
    return levels, body


def plain(values: memoryview, index: int) -> bytes:
    """One of byte arrays that each follow their length."""
    at = 0
    for _ in range(index):
        at += 4 + struct.unpack_from("<I", values, at)[0]
    size = struct.unpack_from("<I", values, at)[0]
    found = bytes(values[at + 4 : at + 4 + size])
    if len(found) < size:
        raise IndexError("a value is longer than its page")
    return found


def hybrid(data: memoryview, width: int, count: int) -> np.ndarray:
    """(>= count,) int64 numbers of `width` bits, in runs and packed eights by turns."""
    parts, found, at = [np.empty(0, np.int64)], 0, 0
    powers = 1 << np.arange(width, dtype=np.int64)
    while found < count:
        header, at = varint(data, at)
        if header & 1:
            size = (header >> 1) * width
            bits = np.unpackbits(np.frombuffer(data[at : at + size], np.uint8), bitorder="little")
            part = bits.reshape(-1, width) @ powers if width else np.zeros(8 * (header >> 1), int)
        else:
            size = (width + 7) // 8
            number = int.from_bytes(data[at : at + size], "little")
            part = np.full(min(header >> 1, count - found), number, np.int64)
        if not len(part):
            raise IndexError("a run of no numbers")
        at, found = at + size, found + len(part)
        parts.append(part)
    return np.concatenate(parts)


def scan(path: str | Path, column: str) -> Pages:
    """The pages of a column of byte arrays, by its dotted name, of all row groups.

    UnknownLayoutError if it is written in another way; ValueError or OSError if it is damaged.
    """
    import pyarrow.parquet as pq

    with open(path, "rb", buffering=0) as file:
        about = pq.ParquetFile(file)
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        number = about.metadata.row_group(0).num_columns if about.metadata.num_row_groups else 0
        names = [about.schema.column(i).path for i in range(number)]
        if column not in names:
            raise UnknownLayoutError(f"{path} has no column {column} of bytes")
        number = names.index(column)
        kind = about.schema.column(number)
        if kind.physical_type != "BYTE_ARRAY" or kind.max_repetition_level:
            raise UnknownLayoutError(f"column {column} of {path} is no column of bytes")
        pages: list[Page] = []
        dictionaries: list[Page] = []
        first = 0
        for group in range(about.metadata.num_row_groups):
            chunk = about.metadata.row_group(group).column(number)
            depth = kind.max_definition_level
            try:
                for page in of_chunk(data, chunk, depth, first, len(dictionaries)):
                    (dictionaries if page.first < 0 else pages).append(page)
            except DAMAGED as error:
                raise ValueError(f"{path} is damaged in row group {group}: {error}") from error
            first += chunk.num_values
    return Pages(*(np.array(kept, np.int64).reshape(-1, 10) for kept in (pages, dictionaries)))


def of_chunk(
    data: memoryview, chunk: Any, depth: int, first: int, dictionary: int
) -> Iterator[Page]:
    """The pages of one column of one row group; `first` is -1 for a dictionary, which has none."""
    codec = chunk.compression.lower()
    if codec not in CODECS:
        raise UnknownLayoutError(f"compression {codec}")
    at = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        at = min(at, chunk.dictionary_page_offset)
    last, known = first + chunk.num_values, -1
    while first < last:
        header, at = thrift(data, at)
        kind, unpacked, stored = header[1], header[2], header[3]
        if not (0 <= stored <= len(data) - at and 0 <= unpacked < 2**31):
            raise IndexError("a page of no possible size")
        if kind == DICTIONARY_PAGE:
            known = dictionary
            written = CODECS.index(codec), PLAIN, 0, -1
            yield Page(-1, header[7][1], at, stored, unpacked, 0, *written)
        elif kind in (DATA, DATA_V2):
            page = _data_page(header, CODECS.index(codec), depth)._replace(
                first=first, begin=at, stored=stored, unpacked=unpacked, dictionary=known
            )
            if page.encoding != PLAIN and known < 0:
                raise IndexError("a page without its dictionary")
            yield page
            first += page.values
        at += stored


def _data_page(header: dict[int, Any], codec: int, depth: int) -> Page:
    """How a page of either version is written."""
    if header[1] == DATA:
        about = header[5]
        count, encoding, levels = about[1], about[2], -1
        if depth and about[3] != RLE:
            raise UnknownLayoutError("levels without runs")
    else:
        about = header[8]
        count, encoding, levels = about[1], about[4], about[5] + about[6]
        codec = codec if about.get(7, True) else 0
    if encoding != PLAIN and encoding not in DICTIONARY:
        raise UnknownLayoutError(f"encoding {encoding}")
    if count < 1:
        raise IndexError("a page of no values")
    return Page(0, count, 0, 0, 0, levels, codec, encoding, depth, -1)


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned number of seven bits a byte, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number, at, shift = number | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise IndexError("a number without an end")


def thrift(data: memoryview, at: int) -> tuple[dict[int, Any], int]:
    """A struct of thrift's compact protocol by field numbers, and where it ends; texts are left
    out.
    """
    fields: dict[int, Any] = {}
    number = 0
    while kind := data[at]:
        at += 1
        if step := kind >> 4:
            number += step
        else:
            number, at = _signed(data, at)
        fields[number], at = _thrift_value(data, at, kind & 15)
    return fields, at + 1


def _thrift_value(data: memoryview, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true and false, whose value is their kind
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _signed(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        size, at = varint(data, at)
        return None, at + size
    if kind == 12:
        return thrift(data, at)
    raise IndexError(f"no page begins here (a field of kind {kind})")


def _signed(data: memoryview, at: int) -> tuple[int, int]:
    number, at = varint(data, at)
    return (number >> 1) ^ -(number & 1), at
