"""Sections of a config that are a signature's keywords, typed and given defaults there alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from vqgan.registry import OneOf, check, options_of, split, suggest

Choice = str | dict[str, Any]
Part = TypeVar("Part", bound=BaseModel)


class Section(BaseModel):
    """Frozen, and strict about what it does not know."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        """ValidationError, with the nearest right key, at the first wrong one."""
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                about = {"suggestion": suggest(str(key), cls.model_fields)}
                error = PydanticCustomError("unknown_key", "unknown key{suggestion}", about)
                details = InitErrorDetails(type=error, loc=(str(key),), input=values[key])
                raise ValidationError.from_exception_data(cls.__name__, [details])
        return values


def said(error: ValidationError) -> str:
    """The first problem in one line: where, what, and what was given."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "unknown_key":
        return f"unknown key {place}{problem['ctx']['suggestion']}"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')} (given: {problem['input']!r})"


def section_of(
    entry: Callable[..., Any], given: tuple[str, ...] = (), name: str | None = None
) -> type[Section]:
    """A section of an entry's keywords but those in `given`; its `name` first, if any."""
    return _section_of(entry, given, name)


@lru_cache(maxsize=256)
def _section_of(
    entry: Callable[..., Any], given: tuple[str, ...], name: str | None
) -> type[Section]:
    hints = hints_of(entry)
    fields: dict[str, Any] = {} if name is None else {"name": (Literal[name], name)}
    for key, parameter in options_of(entry, given).items():
        fields[key] = (
            hints.get(key, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
    return create_model(entry.__name__, __base__=Section, **fields)  # type: ignore[no-any-return]


def hints_of(entry: Callable[..., Any]) -> dict[str, Any]:
    """The types of an entry's keywords, as pydantic checks them; OneOf checks a choice."""
    function = vars(entry)["__init__"] if inspect.isclass(entry) else entry
    return {
        key: _checked(hint) for key, hint in get_type_hints(function, include_extras=True).items()
    }


def _checked(hint: Any) -> Any:
    if get_origin(hint) is not Annotated:
        return hint
    base, *marks = get_args(hint)
    return Annotated[
        (
            base,
            *(AfterValidator(chosen(mark)) if isinstance(mark, OneOf) else mark for mark in marks),
        )
    ]


def chosen(mark: OneOf) -> Callable[[Any], Any]:
    """A check of a choice: its options get its entry's types, other values stay."""

    def validate(spec: Any) -> Any:
        if not isinstance(spec, str | Mapping):
            return spec
        check(mark.table, spec, mark.kind, mark.given)
        name, options = split(spec, mark.kind)
        return spec if isinstance(spec, str) else {**spec, **_typed(mark, name, options)}

    return validate


def _typed(mark: OneOf, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options in the types of their entry: 8.0 becomes 8 where whole numbers go; lists stay lists.

    ValueError if one cannot be.
    """
    entry = mark.table[name]
    required = {
        key for key, value in options_of(entry, mark.given).items() if value.default is value.empty
    }
    section = section_of(entry, tuple(sorted(set(options_of(entry)) - set(options) - required)))
    try:
        found = section.model_validate(options)
    except ValidationError as error:
        raise ValueError(f"{mark.kind} {name!r}: {said(error)}") from error
    return {
        key: value if isinstance(value, list) else getattr(found, key)
        for key, value in options.items()
    }
