"""The commands that make things: train, tokenize, sample, edit, and what tells about them.

Torch is imported late.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from maskgit.cli.derived import late_command, spread
from maskgit.cli.options import (
    BatchSize,
    Compile,
    Computing,
    Confidence,
    ConfigArgument,
    DrawingPrecision,
    Gif,
    Labels,
    Overrides,
    RunArgument,
    Sampling,
    Seed,
    Strip,
    TokenizerArgument,
    app,
    check_out,
    given,
    print_once,
    run_at_hand,
)
from maskgit.config.keywords import Keyword


@app.command(cls=Computing)
def train(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Train what the config says; run again, it continues.

    Example: maskgit train mnist/vqgan train.steps=500
    """
    from maskgit.config.loading import load

    loaded = load(config, overrides or [])
    from maskgit.training.trainer import train as run_training

    print_once(run_training(loaded))


@app.command(cls=Computing)
def tokenize(
    tokenizer: TokenizerArgument,
    out: Annotated[Path, typer.Option(help="The folder of the code cache.")],
    config: Annotated[
        str | None, typer.Option(help="A config whose data section says what to tokenise.")
    ] = None,
    overrides: Overrides = None,
    batch_size: BatchSize = 128,
    overwrite: Annotated[
        bool, typer.Option(help="Make all anew, whatever codes there are.")
    ] = False,
) -> None:
    """Tokenise a data set once, by default the one the tokenizer was trained on; run again, it
    continues, or mends what is damaged.

    Example: maskgit tokenize runs/mnist/vqgan --out runs/mnist/codes
    """
    from maskgit.config.loading import load
    from maskgit.data.tokenization import tokenize_dataset, tokenizer_data

    check_out(out)
    data = None
    if config is not None:
        data = getattr(load(config, overrides or []), "data", None)
        if data is None:
            raise ValueError(f"{config} has no data section")
    elif overrides:
        from maskgit.config.loading import override_section
        from maskgit.config.sections import DataConfig

        data = override_section(DataConfig, tokenizer_data(tokenizer), "data", overrides)
    print_once(tokenize_dataset(tokenizer, out, data, batch_size=batch_size, overwrite=overwrite))


@app.command(cls=Computing)
@spread
def sample(
    run: RunArgument,
    *,
    out: Annotated[
        Path,
        typer.Option(
            help="A .png for a grid with a row for each label, an ADM .npz, or a folder of PNGs."
        ),
    ],
    labels: Labels = "",
    per_label: Annotated[int, typer.Option(help="Images for each label.", min=1)] = 8,
    seed: Seed = 0,
    sampling: Sampling,
    height: Annotated[
        int | None, typer.Option(help="Of the images, in pixels (rotary positions).", min=1)
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Of the images, in pixels (rotary positions).", min=1)
    ] = None,
    precision: DrawingPrecision = None,
    compile: Compile = None,
    batch_size: BatchSize | None = None,
    strip: Strip = None,
    gif: Gif = None,
    confidence: Confidence = None,
) -> None:
    """Draw images by class, as one grid or as a PNG for each.

    Example: maskgit sample fashion --labels bag,coat --out grid.png
    """
    from maskgit.pipeline.drawing import (
        Request,
        compile_for,
        draw_grid,
        draw_images,
        draw_npz,
        draw_views,
        load_pipeline,
        warn_of_preset,
    )
    from maskgit.pipeline.views import Views

    check_out(out, (".png", ".npz"))
    views = Views(strip, gif, confidence)
    views.check()
    pipeline = load_pipeline(run, precision)
    chosen = pipeline.parse_labels(labels) if labels else list(range(len(pipeline.class_names)))
    options = sampling.options(pipeline.label) | given(height=height, width=width)
    warn_of_preset(pipeline, run, sampling.preset)
    request = Request(chosen, per_label, seed, batch_size, options)
    compile_for(pipeline, request, compile)
    one_file = {".png": draw_grid, ".npz": draw_npz}.get(out.suffix.lower())
    paths = [one_file(pipeline, request, out)] if one_file else draw_images(pipeline, request, out)
    for path in filter(None, [*paths, *draw_views(pipeline, request, views)]):
        print(path)


def edit_options() -> Mapping[str, Keyword]:
    """What the edits take, by their signatures."""
    from maskgit.editing.requests import edit_keywords

    return edit_keywords()


@late_command(edit_options)
def edit(
    what: Annotated[str, typer.Argument(help="Such as inpaint or variation (see `maskgit list`).")],
    run: RunArgument,
    images: Annotated[
        list[str],
        typer.Argument(help="Image files, or validation:17 for an image of the run's data."),
    ],
    *,
    out: Annotated[Path | None, typer.Option(help="A .png for one edit, else a folder.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A .png of all edits, before and after.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Label or class to draw; another one swaps the class.")
    ] = None,
    seed: Seed = 0,
    number: Annotated[
        int, typer.Option(help="Edits of each image, each with its own seed.", min=1)
    ] = 1,
    resize: Annotated[bool, typer.Option(help="Cut images to the model's own size first.")] = False,
    sampling: Sampling,
    precision: DrawingPrecision = None,
    strip: Strip = None,
    gif: Gif = None,
    confidence: Confidence = None,
    **own: object,
) -> None:
    """Change a part of images: inside a mask or box, around them, by variation, or from one to
    another.

    Outside a mask or box, and inside the image that is drawn around, pixels stay to the last bit.
    Of several edits, --strip, --gif and --confidence show the first.

    Example: maskgit edit variation runs/mnist/maskgit validation:3 --out x.png
    """
    from maskgit.editing.requests import Outputs, Retouch, retouch
    from maskgit.pipeline.drawing import load_pipeline, warn_of_preset
    from maskgit.pipeline.views import Views
    from maskgit.processes import this_process

    views = Views(strip, gif, confidence)
    views.check()
    if not this_process().is_main_process:  # there is nothing to share
        return
    pipeline = load_pipeline(run, precision)
    options = sampling.options(pipeline.label)
    warn_of_preset(pipeline, run, sampling.preset)
    request = Retouch(what, images, label, seed, number, resize, own, options)
    for path in retouch(pipeline, request, Outputs(out, pairs, views)):
        print(path)


@app.command("import", cls=Computing)
def import_published(
    system: Annotated[str, typer.Argument(help="The project, such as llamagen (`maskgit list`).")],
    source: Annotated[
        str, typer.Argument(help="A file, a folder, or hub:OWNER/NAME[@REVISION][/FILE].")
    ],
    *,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Of a generator: the folder of its tokenizer, imported before."),
    ] = None,
    sizes: Annotated[
        Path | None,
        typer.Option(help="A JSON file of what neither tensors nor the published sizes tell."),
    ] = None,
) -> None:
    """Read published weights of another project into a folder of ours: a tokenizer, or a generator
    that is then sampled, edited and evaluated as those trained here.

    Example: maskgit import halton hub:OWNER/NAME --tokenizer T --out halton
    """
    from maskgit.importing import import_weights, read_sizes

    check_out(out)
    given_sizes = None if sizes is None else read_sizes(sizes)
    print_once(import_weights(system, source, out, tokenizer=tokenizer, sizes=given_sizes))


@app.command("share", cls=Computing)
def share_model(
    run: RunArgument,
    *,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    push: Annotated[
        str | None, typer.Option(help="Also to the Hugging Face hub, as USER/NAME.")
    ] = None,
    private: Annotated[
        bool | None, typer.Option("--private", help="If it is new there, for you alone.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of the weights in the files: fp32, or fp16, half as large.")
    ] = "fp32",
) -> None:
    """A model to give away: weights, config, presets and a card with a grid, without paths of this
    machine.

    Example: maskgit share runs/mnist/maskgit --out digits
    """
    from maskgit.pipeline import share
    from maskgit.processes import this_process

    check_out(out)
    if not this_process().is_main_process:  # there is nothing to share
        return
    for place in share(run, out, push, private, precision):
        print(place)


@app.command("list")
def list_names() -> None:
    """The configs that come with the package, and every name a config may choose from.

    Example: maskgit list
    """
    from maskgit.cli.names import names

    print(names())


@app.command()
def info(
    path: Annotated[
        Path,
        typer.Argument(
            help="A run, pipeline or code cache, weights file, config, fashion, or hub:USER/NAME.",
            callback=run_at_hand,
        ),
    ],
    overrides: Overrides = None,
) -> None:
    """What a run, a pipeline, a code cache, a weights file or a config holds; sizes, and what an
    image costs.

    Example: maskgit info mnist/maskgit model.depth=12
    """
    from maskgit.config import known_configs

    if path.suffix != ".yaml" and str(path) not in known_configs() and not path.exists():
        raise FileNotFoundError(
            f"{path} is no run, pipeline, code cache, weights file or config of ours"
        )
    from maskgit.cli.overview import describe_path

    print(describe_path(path, overrides or []))


@app.command()
def doctor(
    path: Annotated[
        str | None, typer.Argument(help="A run's folder or a config: can it be trained here?")
    ] = None,
) -> None:
    """What this machine and a run or config have, and what would stop it: a line each.

    Exit status 2 if something would.

    Example: maskgit doctor runs/mnist/maskgit
    """
    from maskgit.cli.doctor import examine

    stops = 0
    for finding in examine(path):
        print(finding, flush=True)
        stops += not finding.good
    if stops:
        raise typer.Exit(2)
