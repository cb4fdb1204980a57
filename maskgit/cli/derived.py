"""Options of commands that are typed elsewhere: in a class, or in a table's signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin

import typer
from annotated_types import Ge, Le, Len
from typer.core import TyperCommand

from maskgit.cli.options import Computing, app, given, numbers
from maskgit.config.keywords import Keyword, parts_of

Command = Callable[..., None]


def spread(command: Command, keywords: Mapping[str, Keyword] | None = None) -> Command:
    """The command as typer shall see it.

    A parameter whose type is a dataclass stands for the options that its fields are; the command
    gets one value of that class. `**options` stands for the keywords; it gets the given ones.
    """
    keywords = keywords or {}
    seen: list[Parameter] = []
    classes: dict[str, Any] = {}
    for name, parameter in signature(command, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation):
            classes[name] = parameter.annotation
            seen += signature(classes[name], eval_str=True).parameters.values()
        elif parameter.kind is Parameter.VAR_KEYWORD:
            seen += map(option_of, keywords.values())
        else:
            seen.append(parameter)

    @wraps(command)
    def called(**values: Any) -> None:
        for name, kind in classes.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        own = given(**{name: values.pop(name) for name in keywords})
        command(**values, **{name: read(keywords[name], value) for name, value in own.items()})

    shown = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in seen]
    vars(called)["__signature__"] = Signature(shown)
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return called


def late_command(keywords: Callable[[], Mapping[str, Keyword]]) -> Callable[[Command], Command]:
    """Register a command whose `**options` are these keywords.

    They are asked for when the command is, since their table takes seconds to import.
    """

    def register(command: Command) -> Command:
        class Late(TyperCommand):
            def make_context(self, *args: Any, **kwargs: Any) -> Any:
                whole = typer.Typer(add_completion=False, rich_markup_mode=None)
                whole.command(self.name, cls=Computing)(spread(command, keywords()))
                return typer.main.get_command(whole).make_context(*args, **kwargs)

        app.command(cls=Late)(spread(command))
        return command

    return register


def option_of(keyword: Keyword) -> Parameter:
    """A keyword as a command's parameter: None where the option is not given."""
    least, most = keyword.mark(Ge), keyword.mark(Le)
    limits: dict[str, Any] = {"min": least and least.ge, "max": most and most.le}
    kind: Any = keyword.written
    hint = Annotated[kind | None, typer.Option(help=keyword.help, **limits)]
    return Parameter(keyword.name, Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def read(keyword: Keyword, value: Any) -> Any:
    """The text of several numbers -> a list of them; other values stay as typer reads them."""
    if get_origin(keyword.kind) is not Sequence:
        return value
    (kind, *_), marks = parts_of(get_args(keyword.kind)[0])
    least: Any = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    length = keyword.mark(Len)
    return numbers(value, kind, length.min_length if length else 0, least)
