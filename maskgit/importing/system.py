"""System: a project whose files are read; what one reads of a file, and what both sides share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from maskgit.importing.reading import Foreign

Tensors = Mapping[str, Tensor]


class Sizes:
    """What `--sizes`, or a config beside the file, says that neither its tensors nor the table of
    published files tell: names as in the project's own config."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name; ValueError if there is none, and no default."""
        found = self.given.get(name, default)
        if found is None:
            raise ValueError(
                f"its tensors do not say {name}, and it is none of the published sizes: give it in "
                f'a JSON file, {{"{name}": ...}}, by --sizes'
            )
        return found


class Imported(NamedTuple):
    """What is read of a file."""

    kind: str  # "tokenizer", or "maskgit" for a generator
    model: dict[str, Any]  # an entry of TOKENIZERS or BACKBONES with its options
    tensors: dict[str, Tensor]  # under the names of that net


class Published(NamedTuple):
    """A file that a project has published."""

    repo: str  # on the hub, or the address of its folder
    file: str
    gives: str
    fid: float | None = None  # of 50,000 images, as its authors say; rFID of a tokenizer


class System(NamedTuple):
    """An entry of IMPORTERS."""

    title: str
    url: str
    licence: str
    files: Sequence[Published]
    # whether tensors, under their names in the file, are of this system
    knows: Callable[[Tensors], bool]
    read: Callable[[Foreign, Sizes], Imported]
    tokenizer: str = ""  # what a generator's codes are of: the words after `maskgit import`
    # published settings: a sampler with options, and guidance, u + s (c - u)
    sampler: Mapping[str, Any] = {"name": "confidence"}
    guidance: Mapping[str, Any] = {"scale": 1.0}
    like: str = (
        ""  # an entry of IMPORTERS whose files may be of this system: the names are the same
    )

    @property
    def says(self) -> str:
        """What its files give, in a line."""
        return "; ".join(f"{file.file}: {file.gives}" for file in self.files)


Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns and what stands for them, for each name one after the other."""


def renamed(tensors: Tensors, rules: Rules) -> dict[str, Tensor]:
    """The same tensors under our names."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found


def number_of(tensors: Tensors, prefix: str) -> int:
    """How many of `prefix`0, `prefix`1, ... there are: one more than the highest."""
    found = [re.match(rf"{re.escape(prefix)}(\d+)(\.|$)", name) for name in tensors]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def shape_of(tensors: Tensors, name: str, axes: int | None = None) -> tuple[int, ...]:
    """Of a tensor that must be there; ValueError if it is not, or has another number of axes."""
    if name not in tensors:
        raise ValueError(f"it lacks {name}")
    found = tuple(tensors[name].shape)
    if axes is not None and len(found) != axes:
        raise ValueError(f"its {name} is {found}, not of {axes} axes")
    return found


def whole_root(number: int, what: str) -> int:
    """The side of a square of so many cells; ValueError if there is none."""
    side = round(max(number, 0) ** 0.5)
    if side * side != number or not side:
        raise ValueError(f"{what} are {number}, which is no square")
    return side
