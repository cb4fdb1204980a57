"""MAY_CHANGE: the mark of a config field that a resumed run may set anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel


class _MayChange:
    """The type of MAY_CHANGE."""


MAY_CHANGE = _MayChange()
"""In a field's annotation, `Annotated[int, MAY_CHANGE]`: what is trained does not depend on it."""


def may_change(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of the fields that are so marked, a section's for all that is in it."""
    for name, field in schema.model_fields.items():
        if any(isinstance(mark, _MayChange) for mark in field.metadata):
            yield f"{prefix}{name}"
            continue
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from may_change(part, f"{prefix}{name}.")
