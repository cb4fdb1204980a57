"""Where a pipeline is: in a folder, or on the hub by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from maskgit.pipeline.saved import pipeline_folder

if TYPE_CHECKING:
    from maskgit.pipeline.pipeline import Pipeline

HUB = "hub:"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def found(place: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a pipeline, by its path, its run's, or its name on the hub.

    A text `user/name` is a name of the hub where no such path exists; `hub:user/name` always is.
    revision, token: as `hub.fetch` has them. FileNotFoundError, ValueError in a line.
    """
    if str(place).startswith(HUB):
        return at_hand(Path(place), revision, token)
    if isinstance(place, str) and HUB_NAME.fullmatch(place) and not Path(place).exists():
        try:
            return at_hand(Path(HUB + place), revision, token)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"no folder {place} here, and {error}") from None
    if revision is not None:
        raise ValueError(f"{place} is a folder: only models of the hub have a revision")
    return pipeline_folder(Path(place))


def at_hand(run: Path, revision: str | None = None, token: str | None = None) -> Path:
    """A path as it is; the folder in the cache for `hub:user/name[@revision]`."""
    if not str(run).startswith(HUB):
        return run
    from maskgit.pipeline.hub import fetch_folder

    return fetch_folder(str(run), revision, token)


def check_own(run: Path) -> None:
    """ValueError for a model in the cache of the hub, beside which nothing is written."""
    from maskgit.pipeline.hub import is_cached

    if is_cached(run):
        raise ValueError(
            "results are written beside a model, and this one is in the cache of the hub: "
            "`maskgit share hub:... --out FOLDER` copies it"
        )


def push_to_hub(
    pipeline: Pipeline, name: str, *, token: str | None = None, private: bool | None = None
) -> str:
    """Share it as `user/name`, with a card and without paths of this machine -> its address.

    token: else HF_TOKEN, or the one that is logged in. private: of a new one. ValueError in a line.
    """
    from maskgit.pipeline.sharing import push

    return push(pipeline, name, token=token, private=private)
