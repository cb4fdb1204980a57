"""A table of names, and how an object is made from a name and its options.

A table is a plain dict from a name to a function or class. It is the only place that knows the
names: configs, command line, documentation and contract tests are made from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt

T = TypeVar("T")
Positive = Annotated[int, Gt(0)]
Count = Annotated[int, Ge(0)]
Size = Annotated[int, Gt(0), Le(2**20)]
"""How large something is built, such as a width."""
Repeats = Annotated[int, Gt(0), Le(1000)]
"""How often something is built, such as a layer."""
Share = Annotated[float, Ge(0), Le(1)]
Inside = Annotated[float, Gt(0), Lt(1)]
Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True, eq=False)
class OneOf:
    """Marks a keyword that is itself a choice: `Annotated[str, OneOf(QUANTIZERS, "quantizer",
    ["dim"])]`.

    given: the keywords of its entries that do not come from the user.
    """

    table: Mapping[str, Callable[..., Any]]
    kind: str
    given: Iterable[str] = ()


@dataclass(frozen=True)
class Above:
    """Marks a number that is to be above another keyword: `Annotated[float, Above("low")]`."""

    other: str


@dataclass(frozen=True)
class Asks:
    """Marks a keyword that, at one value, asks that another divides by a number.

    `Annotated[str, Asks("rotary", "dim_head", 4)]`.
    """

    value: Any
    other: str
    divisor: int


@dataclass(frozen=True)
class Rising:
    """Marks a pair of numbers of which the second is to be the greater one."""


MOST_NAMES = 40
"""Of a list in a message."""


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Names with commas between, the first of them and "…" where they are more than `most`."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: what was perhaps meant, and what is known."""
    names = sorted(map(str, known))
    near = get_close_matches(str(name), names)
    # letters swapped: the likeliest slip
    near.sort(key=lambda other: sorted(other) != sorted(str(name)))
    meant = f", did you mean {near[0]!r}?" if near else ""
    return f"{meant} (known: {listed(names)})"


def changes(before: Sequence[str], now: Sequence[str]) -> str:
    """How one list of names became another, the first few of each kind."""
    gone = [name for name in before if name not in set(now)]
    new = [name for name in now if name not in set(before)]
    if not gone and not new:
        gone, new = (
            [name for name, other in zip(names, others, strict=False) if name != other]
            for names, others in ((before, now), (now, before))
        )
    return f"{_first(gone)} of {len(before)} -> {_first(new)} of {len(now)}"


def _first(names: Sequence[str], count: int = 5) -> str:
    return f"[{listed(names, count)}]"


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """The entry of `table` called `name`; ValueError names the nearest and all known names."""
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}{suggest(name, table)}")
    return table[name]


def options_of(
    entry: Callable[..., Any], given: Iterable[str] = ()
) -> dict[str, inspect.Parameter]:
    """The options of a table entry that a user may set: its parameters but those in `given`."""
    parameters = inspect.signature(entry).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name not in set(given) | {"self"}
    }


def split(spec: str | Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """`{name: vq, codebook_size: 512}` (or just `vq`) -> ("vq", {"codebook_size": 512})."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise ValueError(f"a {kind} is written {{name: ..., option: ...}}, not {spec!r}")
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}


def check(
    table: Mapping[str, Callable[..., Any]],
    spec: str | Mapping[str, Any],
    kind: str,
    given: Iterable[str] = (),
) -> None:
    """Raise a ValueError that teaches if `spec` names an unknown entry or option."""
    name, options = split(spec, kind)
    known = options_of(choose(table, name, kind), given)
    for option in options:
        if option not in known:
            raise ValueError(f"{kind} {name!r} has no option {option!r}{suggest(option, known)}")
    missing = [
        key for key, value in known.items() if value.default is value.empty and key not in options
    ]
    if missing:
        raise ValueError(f"{kind} {name!r} needs {', '.join(missing)}")


def build(
    table: Mapping[str, Callable[..., T]],
    spec: str | Mapping[str, Any],
    kind: str,
    /,
    *args: Any,
    **given: Any,
) -> T:
    """Make the object that `spec` names, with its options and the arguments of the caller."""
    name, options = split(spec, kind)
    entry = choose(table, name, kind)
    positional = list(inspect.signature(entry).parameters)[: len(args)]
    check(table, spec, kind, given=[*given, *positional])
    return entry(*args, **given, **options)
