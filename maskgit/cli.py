"""The command line: one short function for each command, that parses, then calls; torch is imported where used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="maskgit",
    help="Image-token generation, MaskGIT style: tokenise, train, sample, evaluate.",
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
Sampler = Annotated[
    str | None, typer.Option(help="Another sampler than the run's own: critic, or {name: critic, noise_scale: 2}.")
]
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
    out: Annotated[
        Path, typer.Option(help="A .png for a grid with a row for each label, an ADM .npz, or a folder of PNGs.")
    ],
    labels: Labels = "",
    per_label: Annotated[int, typer.Option(help="Images for each label.", min=1)] = 8,
    seed: Seed = 0,
    sampler: Sampler = None,
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
    from maskgit.sampling import Request, draw_grid, draw_images, draw_npz, draw_strip, load_pipeline

    if out.suffix.lower() in (".jpg", ".jpeg", ".webp", ".gif", ".bmp") or (strip and strip.suffix.lower() != ".png"):
        raise ValueError(f"{strip if out.suffix == '.png' else out}: pictures are written as .png")
    pipeline = load_pipeline(run)
    chosen = pipeline.parse_labels(labels) if labels else list(range(len(pipeline.class_names)))
    options = _given(steps=steps, guidance=guidance, temperature=temperature, choice_temperature=choice_temperature)
    options |= _sampler(sampler)
    request = Request(chosen, per_label, seed, batch_size, options)
    one_file = {".png": draw_grid, ".npz": draw_npz}.get(out.suffix.lower())
    paths = [one_file(pipeline, request, out)] if one_file else draw_images(pipeline, request, out)
    if strip is not None:
        paths = [*paths, draw_strip(pipeline, request, strip)]
    for path in filter(None, paths):
        print(path)


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="The run folder of a trained generator.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Instead of a run: a folder of images or an ADM .npz.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="A config with a data section, a folder or .npz; by default the run's own data.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split that is the reference: train or validation.")] = "train",
    count: Annotated[int | None, typer.Option(help="Samples to draw, 10,000 by default.", min=1)] = None,
    metrics: Annotated[str, typer.Option(help="Such as fid,kid,bits; all that apply by default.")] = "",
    features: Annotated[str | None, typer.Option(help="Feature network: classifier or inception.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights: a classifier's run, or Inception's file.")] = None,
    judge: Annotated[Path | None, typer.Option(help="A classifier's run, for class agreement.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first sample, 0 by default.")] = None,
    sampler: Sampler = None,
    steps: Steps = None,
    guidance: Guidance = None,
    temperature: Temperature = None,
    choice_temperature: Choice = None,
    batch_size: BatchSize = 100,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; RUN/evaluation by default.")] = None,
) -> None:
    """FID, KID, IS, precision, recall, density, coverage, class agreement, rFID, bits per code; with intervals."""
    from maskgit.evaluation import Evaluation
    from maskgit.evaluation import evaluate as run_evaluation

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    options = _given(steps=steps, guidance=guidance, temperature=temperature, choice_temperature=choice_temperature)
    options |= _sampler(sampler)
    request = Evaluation(
        run, samples, reference, split, count, seed, names, features, weights, judge, batch_size, out, options
    )
    _print_once(run_evaluation(request))


@app.command()
def benchmark(
    what: Annotated[str, typer.Argument(help="speed; quality: ours and the plain pipeline; settings.")] = "speed",
    only: Annotated[str, typer.Option(help="Parts of speed, such as training,sampling; all by default.")] = "",
    cells: Annotated[str | None, typer.Option(help="Grid sizes in cells, 64,256,1024 by default.")] = None,
    params: Annotated[str | None, typer.Option(help="Model sizes in million parameters, 5,25 by default.")] = None,
    batch: Annotated[str | None, typer.Option(help="Batch sizes, 1,8,32 by default.")] = None,
    rounds: Annotated[str | None, typer.Option(help="Sampler rounds, 8,12,18 by default.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Turns go on for so long at each shape, 8 by default.")] = None,
    longest: Annotated[float | None, typer.Option(help="A part ends after so many seconds, 240 by default.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer sizes by default: the whole picture in five minutes.")] = False,
    minutes: Annotated[
        str | None, typer.Option(help="Of training. quality: tokenizer, generator, 5,10 by default; settings: 3.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Samples: quality 10,000, settings 2,000.", min=10)] = None,
    seeds: Annotated[int, typer.Option(help="settings: how many.", min=1)] = 2,
    out: Annotated[Path, typer.Option(help="Folder of tables, JSON and pictures.")] = Path("runs/benchmark"),
) -> None:
    """Time us against the peers and the machine, or measure on Fashion-MNIST what is drawn after the same time.

    quality: by our pipeline and by the plain one. settings: by each setting of the wrapper; run again, it continues.
    """
    from vqgan.registry import choose

    choose(dict.fromkeys(("speed", "quality", "settings")), what, "benchmark")
    if what == "quality":
        from maskgit.benchmark.quality import run_quality

        print(run_quality(_numbers(minutes or "5,10", float, 2), count or 10_000, out))
        return
    if what == "settings":
        from maskgit.benchmark.settings import run_settings

        print(run_settings(_numbers(minutes or "3", float, 1)[0], seeds, count or 2000, out))
        return
    from maskgit import benchmark as bench
    from maskgit.benchmark.parts import Plan

    sizes = _given(cells=cells, params=params, batch=batch, rounds=rounds)
    given: dict[str, Any] = {key: tuple(_numbers(str(text), int)) for key, text in sizes.items()}
    given |= _given(seconds=seconds, longest=longest)
    plan = replace(bench.QUICK if quick else Plan(), **given)
    print(bench.run_benchmark([name.strip() for name in only.split(",") if name.strip()], plan, out))


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


def _numbers(text: str, kind: Callable[[str], Any], how_many: int = 0) -> list[Any]:
    """`1,8,32` -> numbers above zero; ValueError says what is wrong."""
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0 or (how_many and len(found) != how_many):
        raise ValueError(f"{text!r} should be {how_many or 'one or more'} positive numbers, with commas between")
    return found


def _sampler(text: str | None) -> dict[str, object]:
    """`critic`, or `{name: critic, noise_scale: 2}` as in a config -> the option of a pipeline."""
    from maskgit.overrides import parse_choice

    return {} if text is None else {"sampler": parse_choice(text, "sampler")}


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
