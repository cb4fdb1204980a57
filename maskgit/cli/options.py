"""What the commands share: the app, options by type, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand


class Computing(TyperCommand):
    """A command that computes: on CPUs, its process keeps the memory that it frees."""

    def invoke(self, ctx: Any) -> Any:
        """Once its words are known to be right, and no help was asked for; what is not there is
        told before torch is imported."""
        _check_there(ctx.params)
        from maskgit.machine import keep_freed_memory

        keep_freed_memory()
        return super().invoke(ctx)


def _check_there(given: Mapping[str, Any]) -> None:
    """FileNotFoundError for a run or a config that a command was given."""
    from maskgit.config import find_config
    from maskgit.pipeline import check_there

    if isinstance(given.get("config"), str):
        find_config(given["config"])
    if isinstance(given.get("run"), Path):
        check_there(given["run"])


app = typer.Typer(
    name="maskgit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from maskgit import __version__

        print(f"maskgit {__version__}")
        raise typer.Exit


@app.callback()
def whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Image-token generation, MaskGIT style: tokenise, train, sample, edit, evaluate.

    Example: maskgit sample fashion --out grid.png
    """


ConfigArgument = Annotated[
    str, typer.Argument(help="A YAML file, or a name such as mnist/vqgan (see `maskgit list`).")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Config overrides, e.g. train.steps=500 seed=1.")
]


def run_at_hand(run: Path | None) -> Path | None:
    """`hub:user/name` -> its folder in the cache, downloaded if it is not there; `fashion` -> that
    of the package."""
    from maskgit.pipeline import at_hand

    return None if run is None else at_hand(run)


RunArgument = Annotated[
    Path,
    typer.Argument(
        help="The run folder of a trained generator, fashion, which is here, or hub:USER/NAME.",
        callback=run_at_hand,
    ),
]
TokenizerArgument = Annotated[
    Path,
    typer.Argument(
        help="The run folder of a tokenizer, its .safetensors file, or hub:USER/NAME.",
        callback=run_at_hand,
    ),
]
Labels = Annotated[
    str,
    typer.Option(
        help="Labels or class names: 0-9 or 3,3,7 or bag,coat. All classes by default. Where a "
        "number is also a name: #3 is the number, =3 the name."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the first image; the next ones follow it.")]
Precision = Annotated[
    str, typer.Option(help="Of the generator's weights: fp32, bf16, or auto, the quicker here.")
]
DrawingPrecision = Annotated[
    str | None,
    typer.Option(
        help="Of the generator's weights: fp32, bf16, or auto; by default fp32 on CPUs, else auto."
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        help="Compile the model first, about a minute; by default on accelerators, for 50,000 "
        "images or more of a process."
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Feature networks, such as classifier,mobilenet; by default the judge, or inception. "
        "classifier and witness need no download, mobilenet and inception one."
    ),
]
Judge = Annotated[
    Path | None,
    typer.Option(
        help="A classifier's run, for class agreement and features, by default that of the same "
        "images; auto trains one if there is none."
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="Images made together, at most; changes no image. By default what the memory holds.",
        min=1,
    ),
]
Strip = Annotated[
    Path | None, typer.Option(help="Also a .png of the first image of each row, round by round.")
]
Gif = Annotated[Path | None, typer.Option(help="Also a .gif of the same.")]
Confidence = Annotated[
    Path | None,
    typer.Option(help="Also a .png: each code's probability when it was drawn, guided."),
]


@dataclass(frozen=True)
class Sampling:
    """The options of every command that draws: with what, instead of the run's own settings."""

    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings by name in RUN/pipeline/presets, as confidence-12 (`maskgit tune`).",
        ),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Another sampler than the run's own: halton, or {name: remask, eta: 0.1}.",
        ),
    ] = None
    steps: Annotated[int | None, typer.Option(help="Sampler rounds.", min=1)] = None
    guidance: Annotated[
        str | None,
        typer.Option(
            help="Guidance scale s in u + s (c - u), 1 is none; or {scale: 3, schedule: linear}.",
        ),
    ] = None
    negative: Annotated[
        str | None,
        typer.Option(help="A label or class to lead away from, by guidance."),
    ] = None
    temperature: Annotated[
        str | None,
        typer.Option(
            help="Token temperature; or two, such as 1.2,0.8: at the start and at the end.",
        ),
    ] = None
    choice_temperature: Annotated[
        str | None,
        typer.Option(help="Choice temperature of the confidence sampler, or two numbers."),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option(help="Draw from the k most likely codes only.", min=1),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw from the likeliest codes of this probability.", min=0, max=1),
    ] = None
    words: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any option of the sampler or of guidance, such as sampler.eta=.1; repeatable.",
        ),
    ] = None

    def options(self, label: Callable[[str], object] = str) -> dict[str, Any]:
        """What was given -> the options of Pipeline.stream; label: what reads a class name."""
        from maskgit.config.overrides import parse_choice

        readers: dict[str, Callable[[str], object]] = {
            "sampler": partial(parse_choice, kind="sampler"),
            "guidance": partial(parse_choice, kind="guidance"),
            "negative": label,
            "temperature": ramp,
            "choice_temperature": ramp,
        }
        own = given(**vars(self))
        words = own.pop("words", [])
        found = {key: readers[key](text) if key in readers else text for key, text in own.items()}
        return set_words(found, words) if words else found


def check_out(out: Path | None, written: Sequence[str] = ()) -> None:
    """ValueError if `out` is named as a file of a kind that is not written; else it is a folder."""
    from maskgit.data.sources import readable_suffixes

    if out is None or out.suffix.lower() in written:
        return
    if out.suffix.lower() in readable_suffixes() | OTHER_FILES or out.is_file():
        kinds = f"a {' or '.join(written)}, or a folder" if written else "a folder"
        raise ValueError(f"{out}: this is written to {kinds}")


OTHER_FILES = {
    ".npz", ".npy", ".zip", ".tar", ".gz", ".pdf", ".svg", ".json", ".jsonl", ".yaml", ".csv",
    ".md", ".txt", ".html", ".mp4", ".safetensors", ".pt",
}  # fmt: skip
"""What people call files that are no folders, besides pictures."""


def print_once(result: object) -> None:
    """Results go to stdout, once, whatever the number of processes."""
    from maskgit.processes import this_process

    if this_process().is_main_process:
        print(result)


def numbers(
    text: str, kind: Callable[[str], Any], how_many: int = 0, least: float | None = None
) -> list[Any]:
    """`1,8,32` -> numbers above zero, or from `least` on; ValueError says what is wrong."""
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    small = bool(found) and (min(found) <= 0 if least is None else min(found) < least)
    if not found or small or (how_many and len(found) != how_many):
        kinds = "positive numbers" if least is None else f"numbers from {least:g} on"
        raise ValueError(
            f"{text!r} should be {how_many or 'one or more'} {kinds}, with commas between"
        )
    return found


def set_words(options: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """`sampler.eta=.1` and `guidance.scale=3` on top of the options of Pipeline.stream."""
    from maskgit.config.keywords import keywords_of
    from maskgit.config.overrides import parse_sections
    from maskgit.samplers import SAMPLERS
    from vqgan.registry import choose

    found, sections = dict(options), parse_sections(words, ("sampler", "guidance"), "--set")
    for key, value in sections.get("sampler", {}).items():
        choose({"name": None, **keywords_of(SAMPLERS)}, key, "option of a sampler")
        found["sampler" if key == "name" else key] = value
    if "guidance" in sections:
        before = found.get("guidance", {})
        scale = before if isinstance(before, Mapping) else {"scale": before}
        found["guidance"] = {**scale, **sections["guidance"]}
    return found


def ramp(text: str) -> float | tuple[float, float]:
    """`1.2`, or `1.2,0.8`: from the one at r = 0 to the other at r = 1."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 2) or min(found) < 0:
        raise ValueError(f"{text!r} should be a temperature, or two with a comma between")
    return found[0] if len(found) == 1 else (found[0], found[1])


def given(**options: Any) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {key: value for key, value in options.items() if value is not None}
