"""The keywords of a table's entries, with all that a command line needs to make options of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

Mark = TypeVar("Mark")
Parts = tuple[tuple[Any, ...], tuple[Any, ...]]

WRITTEN = (int, float, bool, Path)
"""The types that a command line can read; all others are written as text."""


@dataclass(frozen=True)
class Keyword:
    """A keyword of one or several entries of a table; the first of them says what it is.

    In a signature: `mask: Annotated[Tensor | None, Path, "an image, white where to draw"] = None`.
    A text is its help; Ge, Le and Len are its limits; a type (str, Path) is the one in which a
    person gives it, where that is another than its own.
    """

    name: str
    entries: tuple[str, ...]  # that take it
    required_by: tuple[str, ...]  # those of them in which it has no default
    kind: Any  # its type, without None
    marks: tuple[Any, ...]  # what its type is annotated with

    def mark(self, kind: type[Mark]) -> Mark | None:
        """The first mark of that kind, if there is one."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    @property
    def option(self) -> str:
        """Its name on a command line."""
        return option_name(self.name)

    @property
    def help(self) -> str:
        """The entries that take it, and its text."""
        return ": ".join(filter(None, (", ".join(self.entries), self.mark(str)))) + "."

    @property
    def written(self) -> type:
        """The type in which a person gives it."""
        kind = self.mark(type) or self.kind
        return kind if kind in WRITTEN else str


def option_name(name: str) -> str:
    """`num_frames` -> `--num-frames`."""
    return f"--{name.replace('_', '-')}"


def keywords_of(
    table: Mapping[str, Callable[..., Any]],
    given: Iterable[str] = (),
) -> dict[str, Keyword]:
    """The keyword-only parameters of all entries by name, but those in `given`."""
    places: dict[str, list[tuple[str, inspect.Parameter]]] = {}
    for entry, function in table.items():
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name not in given:
                places.setdefault(name, []).append((entry, parameter))
    return {name: _keyword(name, found) for name, found in places.items()}


def _keyword(name: str, places: list[tuple[str, inspect.Parameter]]) -> Keyword:
    (kind, *_), marks = parts_of(places[0][1].annotation)
    required_by = [entry for entry, parameter in places if parameter.default is parameter.empty]
    return Keyword(name, tuple(entry for entry, _ in places), tuple(required_by), kind, marks)


def parts_of(hint: Any) -> Parts:
    """A type -> the plain types that it is a union of, without None, and all annotations."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        kinds, own = parts_of(inner)
        return kinds, (*marks, *own)
    if get_origin(hint) in (Union, UnionType):
        parts = [parts_of(part) for part in get_args(hint) if part is not NoneType]
        kinds = tuple(kind for found, _ in parts for kind in found)
        return kinds, tuple(mark for _, found in parts for mark in found)
    return (hint,), ()
