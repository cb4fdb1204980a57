"""Validators of choices from a table, for the fields of a config: names, options, and the types of the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from vqgan.registry import check, choose, split

Choice = str | dict[str, Any]


def names(load_table: Callable[[], Mapping[str, Callable[..., Any]]], kind: str, given: Sequence[str] = ()) -> Any:
    """A validator of an open choice; the table is imported only when a value is checked."""

    def validate(spec: Choice | None) -> Choice | None:
        if spec is not None:
            entries = load_table()
            check(entries, spec, kind, given)
            typed = _typed(entries, spec, kind)
            return spec if isinstance(spec, str) else {**spec, **typed}
        return spec

    return AfterValidator(validate)


def _typed(entries: Mapping[str, Callable[..., Any]], spec: Choice, kind: str) -> dict[str, Any]:
    """The options of a choice in the types that its entry is annotated with: 8.0 becomes 8 where whole numbers go.

    ValueError if one cannot be.
    """
    name, options = split(spec, kind)
    found: dict[str, Any] = {}
    entry = entries[name]
    hints = get_type_hints(vars(entry)["__init__"] if isinstance(entry, type) else entry)
    for option, value in options.items():
        try:
            adapter: Any = TypeAdapter(hints.get(option, Any), config=ConfigDict(arbitrary_types_allowed=True))
            typed = adapter.validate_python(value)
            found[option] = typed if isinstance(value, str | int | float) else value
        except ValidationError as error:
            raise ValueError(f"{kind} {name!r}: {option}: {error.errors()[0]['msg']}") from error
        if option == "schedule":
            from maskgit.schedules import SCHEDULES

            check(SCHEDULES, value, "schedule", ["t"])
            rest = _typed(SCHEDULES, value, "schedule")
            found[option] = value if isinstance(value, str) else {**value, **rest}
    return found


def table(module: str, name: str) -> Callable[[], Any]:
    """A table by the name of its module, imported when called."""
    return lambda: getattr(import_module(module), name)


def member(load_table: Callable[[], Mapping[str, Any]], kind: str) -> Any:
    """A validator of a plain name from a table."""

    def validate(name: str) -> str:
        choose(load_table(), name, kind)
        return name

    return AfterValidator(validate)
