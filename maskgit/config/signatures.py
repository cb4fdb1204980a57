"""Sections of a config that are a signature's keywords, typed and given defaults there alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
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

from maskgit.config.keywords import parts_of
from vqgan.registry import Above, Asks, OneOf, Rising, check, options_of, split, suggest

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
        """ValidationError, with the nearest right key, at the first wrong one.

        And where a number goes and true or false stands, which pydantic takes for 1 or 0.
        """
        for key, value in values.items() if isinstance(values, Mapping) else ():
            error = None
            if key not in cls.model_fields:
                about = {"suggestion": suggest(str(key), cls.model_fields)}
                error = PydanticCustomError("unknown_key", "unknown key{suggestion}", about)
            elif _has_truth_for_number(value, cls.model_fields[key].annotation):
                error = PydanticCustomError("truth", "a number goes here, not true or false")
            if error is not None:
                details = InitErrorDetails(type=error, loc=(str(key),), input=value)
                raise ValidationError.from_exception_data(cls.__name__, [details])
        return values


LISTS = (list, tuple, Sequence)


def _has_truth_for_number(value: Any, hint: Any) -> bool:
    """Whether a value is true or false, or a list with one of them, where its type has numbers."""
    kinds, _ = parts_of(hint)
    if isinstance(value, list | tuple):
        inner = [part for kind in kinds for part in get_args(kind) if get_origin(kind) in LISTS]
        return any(_has_truth_for_number(item, part) for item in value for part in inner)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    known = {*kinds, *map(type, choices)}
    return isinstance(value, bool) and bool not in known and not known.isdisjoint((int, float))


def said(error: ValidationError) -> str:
    """The first problem in one line: where, what, and what was given."""
    problem = error.errors()[0]
    # of a choice, pydantic adds which of its types did not fit
    place = ".".join(str(part) for part in problem["loc"] if part != "str")
    if problem["type"] == "unknown_key":
        return f"unknown key {place}{problem['ctx']['suggestion']}"
    what = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    told = " (no value given)" if given is None else f" (given: {given!r})"
    told = "" if "given: " in what else told
    return f"{place}{': ' * bool(place)}{what}{told}"


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
    order: dict[str, Any] = {"in_order": model_validator(mode="after")(_in_order(entry))}
    made: type[Section] = create_model(  # type: ignore[call-overload]
        entry.__name__, __base__=Section, __validators__=order, **fields
    )
    return made


def _in_order(entry: Callable[..., Any]) -> Callable[[Any], Any]:
    """A check of the keywords that are marked to be above another, or to ask something of it."""
    pairs = [
        (key, mark)
        for key, hint in _marked_hints(entry).items()
        for mark in parts_of(hint)[1]
        if isinstance(mark, Above | Asks)
    ]
    defaults = {key: parameter.default for key, parameter in options_of(entry).items()}

    def validate(section: Section) -> Section:
        for key, mark in pairs:
            here, there = (getattr(section, name, defaults[name]) for name in (key, mark.other))
            if isinstance(mark, Above) and here <= there:
                raise ValueError(f"{key} ({here}) has to be greater than {mark.other} ({there})")
            if isinstance(mark, Asks) and here == mark.value and there % mark.divisor:
                wanted = f"a {mark.other} that divides by {mark.divisor}"
                raise ValueError(f"{key}={here} asks for {wanted}, not {there}")
        return section

    return validate


def _marked_hints(entry: Callable[..., Any]) -> dict[str, Any]:
    function = vars(entry)["__init__"] if inspect.isclass(entry) else entry
    return get_type_hints(function, include_extras=True)


def hints_of(entry: Callable[..., Any]) -> dict[str, Any]:
    """The types of an entry's keywords, as pydantic checks them; OneOf checks a choice."""
    return {key: _checked(hint) for key, hint in _marked_hints(entry).items()}


def _checked(hint: Any) -> Any:
    if get_origin(hint) is not Annotated:
        return hint
    base, *marks = get_args(hint)
    return Annotated[(base, *map(_check_of, marks))]


def _check_of(mark: Any) -> Any:
    """What pydantic makes a check of; other marks stay as they are."""
    if isinstance(mark, OneOf):
        return AfterValidator(chosen(mark))
    return AfterValidator(_rising) if isinstance(mark, Rising) else mark


def _rising(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    if pair is not None and pair[0] >= pair[1]:
        raise ValueError("the second number has to be the greater one")
    return pair


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
