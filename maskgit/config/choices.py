"""Types of the fields of a config that are choices from a table, or the keywords of an entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from pydantic import AfterValidator, BaseModel, BeforeValidator

from maskgit.config.signatures import chosen, section_of
from vqgan.registry import OneOf, choose, split


def table(module: str, name: str) -> Callable[[], Any]:
    """A table, or an entry, by the name of its module, imported when called."""
    return lambda: getattr(import_module(module), name)


def names(
    load_table: Callable[[], Mapping[str, Callable[..., Any]]], kind: str, given: Sequence[str] = ()
) -> Any:
    """An open choice, kept as it is written; the table is imported only when a value is checked."""
    return AfterValidator(lambda spec: chosen(OneOf(load_table(), kind, given))(spec))


def entry(
    load_table: Callable[[], Mapping[str, Any]], kind: str, load_given: Callable[[], Sequence[str]]
) -> Any:
    """A choice as a section `{name: ..., option: ...}`; without a name, of the first entry."""

    def validate(spec: Any) -> Any:
        if spec is None:
            return None
        entries = load_table()
        if isinstance(spec, BaseModel):
            spec = dict(spec)
        if isinstance(spec, Mapping) and "name" not in spec:
            spec = {"name": next(iter(entries)), **spec}
        name, options = split(spec, kind)
        section = section_of(choose(entries, name, kind), tuple(load_given()), name)
        return section.model_validate(options)

    return BeforeValidator(validate)


def keywords(load_entry: Callable[[], Callable[..., Any]], given: Sequence[str]) -> Any:
    """The keywords of one entry but those in `given`, as a section."""
    return BeforeValidator(
        lambda values: section_of(load_entry(), tuple(given)).model_validate(values)
    )


def member(load_table: Callable[[], Mapping[str, Any]], kind: str) -> Any:
    """A plain name from a table."""

    def validate(name: str) -> str:
        choose(load_table(), name, kind)
        return name

    return AfterValidator(validate)
