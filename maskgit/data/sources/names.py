"""Names: as many as a data set has files, without a Python object for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class Names(Sequence[str]):
    """Strings in one array of bytes with the offset of each.

    A million paths as a list are a million objects: data workers that are forked copy their pages
    one after the other as they count references, and those that are spawned are sent them all.
    """

    def __init__(self, names: Iterable[str]) -> None:
        data, ends = bytearray(), [0]
        for name in names:
            data += os.fsencode(name)
            ends.append(len(data))
        self.data = np.frombuffer(data, np.uint8)
        self.ends = np.array(ends, dtype=np.int64)

    @classmethod
    def of(cls, data: np.ndarray, ends: np.ndarray) -> Names:
        """Those in the arrays of others: bytes, and where each ends, after a 0."""
        found = cls(())
        found.data, found.ends = data, ends
        return found

    def part(self, start: int, stop: int) -> Names:
        """Some of them, one after the other, in the same memory."""
        ends = self.ends[start : stop + 1]
        return Names.of(self.data[ends[0] : ends[-1]], ends - ends[0])

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # which knows -1, and what is out of range
        return os.fsdecode(self.data[self.ends[number] : self.ends[number + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))
