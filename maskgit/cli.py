"""The command line: one short function for each command, that parses, then calls; torch is imported where used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="maskgit",
    help="Image-token generation, MaskGIT style: tokenise, train, sample.",
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
Steps = Annotated[int | None, typer.Option(help="Sampler rounds.", min=1)]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale s in u + s (c - u); 1 is none.", min=0)]
Temperature = Annotated[float | None, typer.Option(help="Token temperature.", min=0)]
Choice = Annotated[float | None, typer.Option(help="Choice temperature of the confidence sampler.", min=0)]
BatchSize = Annotated[int, typer.Option(help="Images made together; changes no image.", min=1)]


@app.command()
def train(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Train what the config says; run again, it continues."""
    from maskgit.config import load

    loaded = load(config, overrides or [])
    from maskgit.trainer import train as run_training

    _print_once(run_training(loaded))


@app.command()
def tokenize(
    tokenizer: Annotated[Path, typer.Argument(help="The run folder of a tokenizer, or its .safetensors file.")],
    out: Annotated[Path, typer.Option(help="The folder of the code cache.")],
    config: Annotated[str | None, typer.Option(help="A config whose data section says what to tokenise.")] = None,
    overrides: Overrides = None,
    batch_size: BatchSize = 128,
    overwrite: Annotated[bool, typer.Option(help="Replace the codes of another tokenizer or data set.")] = False,
) -> None:
    """Tokenise a data set once, by default the one the tokenizer was trained on; run again, it continues."""
    from maskgit.config import load
    from maskgit.tokenization import tokenize_dataset, tokenizer_data

    data = None
    if config is not None:
        data = getattr(load(config, overrides or []), "data", None)
        if data is None:
            raise ValueError(f"{config} has no data section")
    elif overrides:
        from maskgit.config import DataConfig, override_section

        data = override_section(DataConfig, tokenizer_data(tokenizer), "data", overrides)
    _print_once(tokenize_dataset(tokenizer, out, data, batch_size=batch_size, overwrite=overwrite))


@app.command()
def sample(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="A .png for a grid with a row for each label, else a folder of PNGs.")],
    labels: Labels = "",
    per_label: Annotated[int, typer.Option(help="Images for each label.", min=1)] = 8,
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    temperature: Temperature = None,
    choice_temperature: Choice = None,
    batch_size: BatchSize = 64,
    strip: Annotated[
        Path | None, typer.Option(help="Also a .png of the first image of each label, round by round.")
    ] = None,
) -> None:
    """Draw images by class, as one grid or as a PNG for each."""
    from maskgit.sampling import Request, draw_grid, draw_images, draw_strip, load_pipeline

    if out.suffix.lower() in (".jpg", ".jpeg", ".webp", ".gif", ".bmp") or (strip and strip.suffix.lower() != ".png"):
        raise ValueError(f"{strip if out.suffix == '.png' else out}: pictures are written as .png")
    pipeline = load_pipeline(run)
    chosen = pipeline.parse_labels(labels) if labels else list(range(len(pipeline.class_names)))
    options = _given(steps=steps, guidance=guidance, temperature=temperature, choice_temperature=choice_temperature)
    request = Request(chosen, per_label, seed, batch_size, options)
    paths = [draw_grid(pipeline, request, out)] if out.suffix.lower() == ".png" else draw_images(pipeline, request, out)
    if strip is not None:
        paths = [*paths, draw_strip(pipeline, request, strip)]
    for path in filter(None, paths):
        print(path)


@app.command("list")
def list_names() -> None:
    """The configs that come with the package, and every name a config may choose from."""
    from maskgit.overview import list_tables

    print(list_tables())


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A run, a pipeline or code-cache folder, or a weights file.")],
) -> None:
    """What a run, a pipeline, a code cache or a weights file holds."""
    from maskgit.overview import describe_path

    print(describe_path(path))


@app.command()
def quickstart(
    configs: Annotated[str, typer.Argument(help="A folder of configs: vqgan, maskgit and classifier.")] = "mnist",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides, each for one stage: vqgan.train.steps=10 maskgit.model.dim=64."),
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Delete the run folder first.")] = False,
) -> None:
    """The whole life of a small model: tokenizer, codes, generator, samples, report. Run again, it continues."""
    from maskgit.quickstart import run_quickstart

    print(run_quickstart(configs, overrides or [], fresh=fresh))


def _print_once(result: object) -> None:
    """Results go to stdout, once, whatever the number of processes."""
    from maskgit.processes import this_process

    if this_process().is_main_process:
        print(result)


def _given(**options: object) -> dict[str, object]:
    """The options that were given on the command line."""
    return {key: value for key, value in options.items() if value is not None}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. A user's mistake is one line and exit status 2; a signal that stopped training, 128 + its number.

    MASKGIT_DEBUG=1 shows the traceback of either.
    """
    try:
        app(arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("MASKGIT_DEBUG"):
            raise
        print(f"maskgit: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        number = getattr(error, "signal_number", None)  # trainer.Stopped, which is not imported for --help
        if number is None:
            raise
        print(f"maskgit: {error}", file=sys.stderr)
        sys.exit(128 + number)
    finally:
        if "torch" in sys.modules:
            from maskgit.processes import leave_group

            leave_group()


if __name__ == "__main__":
    main()
