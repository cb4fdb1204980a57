"""Where a pipeline is: in a folder, on the hub by its name, or in this package by its name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maskgit.pipeline.shipped import shipped, shipped_name, shipped_names
from vqgan.registry import suggest

if TYPE_CHECKING:
    from maskgit.pipeline.pipeline import Pipeline

HUB = "hub:"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def found(place: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a pipeline, by its path, its run's, its name in the package or on the hub.

    What exists as a path is one. A text `user/name` is a name of the hub where no such path
    exists; `hub:user/name` always is.
    revision, token: as `hub.fetch` has them. FileNotFoundError, ValueError in a line.
    """
    from maskgit.pipeline.saved import pipeline_folder

    if str(place).startswith(HUB):
        return at_hand(Path(place), revision, token)
    if isinstance(place, str) and HUB_NAME.fullmatch(place) and not Path(place).exists():
        try:
            return at_hand(Path(HUB + place), revision, token)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no folder {place} here, and {error}") from None
    if revision is not None:
        raise ValueError(f"{place} is a folder: only models of the hub have a revision")
    return pipeline_folder(at_hand(Path(place)))


def at_hand(run: Path, revision: str | None = None, token: str | None = None) -> Path:
    """A path as it is; the folder of a name of the package, unless there is such a path; that in
    the cache for `hub:user/name[@revision]`."""
    if not str(run).startswith(HUB):
        own = shipped(run)
        if own is not None and run.exists():
            print(f"{run} is the folder here, not the model of the package", file=sys.stderr)
        return run if own is None or run.exists() else own
    from maskgit.pipeline.hub import fetch_folder

    return fetch_folder(str(run), revision, token)


def check_there(run: Path) -> None:
    """FileNotFoundError if there is no such folder or file, before torch is imported."""
    if not run.exists():
        names = shipped_names()
        raise FileNotFoundError(
            f"no generator in {run}: train one first (`maskgit train <config>`)"
            f"{suggest(str(run), names) if names else ''}"
        )


def check_own(run: Path) -> None:
    """ValueError for a model in the cache of the hub, or in the package, beside which nothing is
    written."""
    from maskgit.pipeline.hub import is_cached

    if name := shipped_name(run):
        raise ValueError(
            f"results are written beside a model, and {name} lies in the package: "
            f"`maskgit share {name} --out FOLDER` copies it"
        )
    if is_cached(run):
        raise ValueError(
            "results are written beside a model, and this one is in the cache of the hub: "
            "`maskgit share hub:... --out FOLDER` copies it"
        )


def is_own(run: Path) -> bool:
    """Whether results may be written beside a model: it is not of the package, nor of the hub."""
    from maskgit.pipeline.hub import is_cached

    return shipped_name(run) is None and not is_cached(run)


def results_beside(run: Path) -> Path:
    """Where results about a model go, if nobody says: beside it; of one of the package, into
    `runs/<name>`. ValueError as `check_own`."""
    if name := shipped_name(run):
        return Path("runs") / name
    check_own(run)
    return run.parent if run.is_file() else run


def push_to_hub(
    pipeline: Pipeline, name: str, *, token: str | None = None, private: bool | None = None
) -> str:
    """Share it as `user/name`, with a card and without paths of this machine -> its address.

    token: else HF_TOKEN, or the one that is logged in. private: of a new one. ValueError in a line.
    """
    from maskgit.pipeline.sharing import push

    return push(pipeline, name, token=token, private=private)
