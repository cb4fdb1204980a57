"""A model to give away: a pipeline's folder with a card, and no path of this machine in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskgit.config.presets import Preset
from maskgit.data.pixels import save_png
from maskgit.pipeline.drawing import class_grid, load_pipeline
from maskgit.pipeline.hub import check_repo, push_folder
from maskgit.pipeline.model_card import card
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import CONFIG, EXPORT, pipeline_folder
from vqgan.files import replacing

PATH = re.compile(
    r"(?<![\w.:/\\])(?!(?<=<)/\w+>)(?:~[\w.-]*/|/(?=[\w.~])|[A-Za-z]:\\)[^\s'\"`,;)}\]]*"
)
"""A path from the root of a disk, or from somebody's home, in a text; the end of a tag is none."""
CARD = "README.md"
ROWS, COLUMNS = 10, 8
"""Of the grid on the card, at most."""


def share(
    run: Path,
    out: Path,
    name: str | None = None,
    private: bool | None = None,
    precision: str = "fp32",
) -> list[str]:
    """Write weights, config, presets, grid.png and a card README.md of a run to a folder.

    -> the folder, and its address if it goes to the hub, under the name `user/name`. The config it
    was trained with stays, but of absolute paths only their last names. A card that is there stays
    as it is. precision: of the numbers in the files, fp32 or fp16. ValueError if the folder holds
    something else.
    """
    _check_empty(out, run)
    if name is not None:
        check_repo(name)
    pipeline = load_pipeline(run)
    _write(pipeline, out, name, run, precision)
    return [str(out), *([push_folder(out, name, private=private)] if name else [])]


def push(
    pipeline: Pipeline, name: str, *, token: str | None = None, private: bool | None = None
) -> str:
    """As `share`, of a pipeline that may not have been saved -> its address on the hub."""
    with TemporaryDirectory() as folder:
        _write(pipeline, Path(folder), name, None, "fp32")
        return push_folder(Path(folder), name, token, private)


def _write(
    pipeline: Pipeline, out: Path, name: str | None, run: Path | None, precision: str
) -> None:
    pipeline = without_paths(pipeline)
    for path in (out / "presets").glob("*.yaml"):
        path.unlink()
    pipeline.save_pretrained(out, precision=precision)
    labels = list(range(min(ROWS, len(pipeline.class_names))))
    save_png(class_grid(pipeline, labels, COLUMNS), out / "grid.png")
    if (out / CARD).is_file():
        return
    with replacing(out / CARD) as aside:
        aside.write_text(public(card(pipeline, run, name or out.name, on_hub=name is not None)))


def _check_empty(out: Path, run: Path) -> None:
    if out.resolve() in (run.resolve(), pipeline_folder(run).resolve()):
        raise ValueError(f"{out} is the run itself: choose another folder for --out")
    strange = [path for path in out.glob("*") if not _is_ours(path.name)] if out.is_dir() else []
    if strange:
        raise ValueError(f"{out} holds {strange[0].name}: choose a new folder for --out")


def _is_ours(name: str) -> bool:
    return name in OURS or name.startswith(EXPORT)


OURS = {
    CONFIG, "model.safetensors", "tokenizer.safetensors", "critic.safetensors", "presets",
    CARD, "grid.png",
}  # fmt: skip
"""What `share` writes, and may write anew."""


def without_paths(pipeline: Pipeline) -> Pipeline:
    """The same one, of whose config, data and presets no absolute path is left."""
    presets = {
        name: Preset.model_validate(public(preset.model_dump(mode="json")))
        for name, preset in pipeline.presets.items()
    }
    return Pipeline(
        pipeline.model,
        pipeline.own_tokenizer,
        pipeline.class_names,
        sampler=pipeline.sampler,
        guidance=pipeline.guidance,
        run=public(pipeline.run),
        data=public(pipeline.data),
        presets=presets,
    )


def public(value: Any) -> Any:
    """JSON values, or a text, with the last name only of each absolute path."""
    if isinstance(value, Mapping):
        return {public(key): public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if "\n" not in value and (value.startswith("~") or Path(value).is_absolute()):
        return Path(value).name
    for place in {str(Path.cwd()), str(Path.home())} - {"/"}:
        value = re.sub(rf"{re.escape(place)}(?![\w.-])", "~", value)
    return PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], value)
