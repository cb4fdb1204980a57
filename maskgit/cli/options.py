"""What the commands share: the app, options by type, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="maskgit",
    help="Image-token generation, MaskGIT style: tokenise, train, sample, edit, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or a name such as mnist/vqgan (see `maskgit list`).")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Config overrides, e.g. train.steps=500 seed=1.")]
RunArgument = Annotated[Path, typer.Argument(help="The run folder of a trained generator.")]
Labels = Annotated[str, typer.Option(help="Labels or class names: 0-9 or 3,3,7 or bag,coat. All classes by default.")]
Seed = Annotated[int, typer.Option(help="Seed of the first image; the next ones follow it.")]
Preset = Annotated[
    str | None, typer.Option(help="Settings by name from RUN/pipeline/presets, such as confidence-12 (`maskgit tune`).")
]
Sampler = Annotated[
    str | None, typer.Option(help="Another sampler than the run's own: halton, or {name: remask, eta: 0.1}.")
]
Steps = Annotated[int | None, typer.Option(help="Sampler rounds.", min=1)]
Guidance = Annotated[
    str | None,
    typer.Option(help="Guidance scale s in u + s (c - u), 1 is none; or {scale: 3, schedule: linear}."),
]
Negative = Annotated[str | None, typer.Option(help="A label or class to lead away from, by guidance.")]
Temperature = Annotated[
    str | None,
    typer.Option(help="Token temperature; or two, such as 1.2,0.8: at the start and at the end."),
]
Choice = Annotated[str | None, typer.Option(help="Choice temperature of the confidence sampler, or two numbers.")]
TopK = Annotated[int | None, typer.Option(help="Draw from the k most likely codes only.", min=1)]
TopP = Annotated[float | None, typer.Option(help="Draw from the likeliest codes of this probability.", min=0, max=1)]
Precision = Annotated[str, typer.Option(help="Of the generator's weights: fp32, bf16, or auto, the quicker here.")]
Features = Annotated[
    str | None, typer.Option(help="Feature network: classifier, inception or mobilenet; the judge beside the run.")
]
BatchSize = Annotated[int, typer.Option(help="Images made together; changes no image.", min=1)]
Strip = Annotated[Path | None, typer.Option(help="Also a .png of the first image of each row, round by round.")]
Gif = Annotated[Path | None, typer.Option(help="Also a .gif of the same.")]
Confidence = Annotated[
    Path | None, typer.Option(help="Also a .png: each code's probability when it was drawn, guided.")
]


def print_once(result: object) -> None:
    """Results go to stdout, once, whatever the number of processes."""
    from maskgit.processes import this_process

    if this_process().is_main_process:
        print(result)


def numbers(text: str, kind: Callable[[str], Any], how_many: int = 0, least: float | None = None) -> list[Any]:
    """`1,8,32` -> numbers above zero, or from `least` on; ValueError says what is wrong."""
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    small = bool(found) and (min(found) <= 0 if least is None else min(found) < least)
    if not found or small or (how_many and len(found) != how_many):
        kinds = "positive numbers" if least is None else f"numbers from {least:g} on"
        raise ValueError(f"{text!r} should be {how_many or 'one or more'} {kinds}, with commas between")
    return found


def sampling_options(
    preset: str | None,
    sampler: str | None,
    steps: int | None,
    guidance: str | None,
    temperature: str | None,
    choice_temperature: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What was given on the command line -> the options of Pipeline.settings, and `more` of them."""
    from maskgit.overrides import parse_choice

    return given(
        preset=preset,
        sampler=None if sampler is None else parse_choice(sampler, "sampler"),
        steps=steps,
        guidance=None if guidance is None else parse_choice(guidance, "guidance"),
        temperature=None if temperature is None else ramp(temperature),
        choice_temperature=None if choice_temperature is None else ramp(choice_temperature),
        **more,
    )


def ramp(text: str) -> float | tuple[float, float]:
    """`1.2`, or `1.2,0.8`: from the one at r = 0 to the other at r = 1."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 2) or min(found) < 0:
        raise ValueError(f"{text!r} should be a temperature, or two with a comma between")
    return found[0] if len(found) == 1 else (found[0], found[1])


def given(**options: object) -> dict[str, object]:
    """The options that were given on the command line."""
    return {key: value for key, value in options.items() if value is not None}
