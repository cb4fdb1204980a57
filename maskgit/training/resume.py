"""What a resumed run may change, and what a new one may take from another's weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from maskgit.config.loading import flatten, to_dict
from maskgit.config.marks import may_change
from maskgit.config.sections import Config
from maskgit.processes import this_process
from maskgit.training.checkpoints import Checkpoint, checkpoints, find_latest, read_checkpoint
from vqgan.files import sha256
from vqgan.registry import changes
from vqgan.weights import load_weights

NEW_RUN = "set run=... to start a new run, whose weights may come from this one (init_from=...)"
PLACES = ("root", "data_files", "data_dir", "path")
"""Options of a data source that say where its files lie."""


def check_same(old: Config, new: Config, run: str | Path) -> list[str]:
    """ValueError, with the keys, if a resumed run's config differs in what may not change.

    -> the keys that only say where data lies and differ: the data itself has to be the same.
    """
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    free = {*may_change(type(old)), *may_change(type(new))}
    different = [
        key
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
        and not any(f"{key}.".startswith(f"{name}.") for name in free)
    ]
    places = tuple(f"data.source.{option}." for option in PLACES)
    moved = [key for key in different if f"{key}.".startswith(places)]
    wrong = [key for key in different if key not in moved]
    if wrong:
        shown = ", ".join(f"{key}: {before.get(key)} -> {after.get(key)}" for key in wrong[:3])
        raise ValueError(f"{run} was started with another config ({shown}): {NEW_RUN}")
    return moved


def load_agreed(
    accelerator: Accelerator,
    run: Path,
    suits: Callable[[dict[str, Any]], bool] = lambda state: True,
) -> Checkpoint | None:
    """The newest checkpoint that verifies and suits, as the main process finds it, on all of them.

    On all processes together: what `find_latest` raises, and ValueError if one of them does not see
    that very checkpoint, or sees one where the main process sees none.
    """
    told: list[Any] = [None, None, None]
    if accelerator.is_main_process:
        try:
            path = find_latest(run, suits)
            told = [path is not None, _named(path or _newest(run)), None]
        except (ValueError, OSError) as error:
            told[2] = error
    is_found, named, raised = broadcast_object_list(told)
    if raised is not None:
        raise raised
    path = run / "checkpoints" / named.step
    seen = gather_object([_named(path if path.is_dir() else _newest(run))])
    for rank, mine in enumerate(seen):
        if mine != named:
            raise ValueError(
                f"process {rank} sees {mine} of {run} where process 0 has {named}: "
                "it must lie on a disk that all see"
            )
    return read_checkpoint(path) if is_found else None


class Named(NamedTuple):
    """A checkpoint as processes tell each other of it."""

    step: str = "no checkpoint"  # the name of its folder
    manifest: str = ""  # the sha256 of its manifest, which has that of each file

    def __str__(self) -> str:
        return f"{self.step} ({self.manifest[:12]})" if self.manifest else self.step


def _named(path: Path | None) -> Named:
    if path is None:
        return Named()
    try:
        return Named(path.name, sha256(path / "manifest.json"))
    except OSError as error:
        return Named(path.name, type(error).__name__)


def _newest(run: Path) -> Path | None:
    return next(reversed(checkpoints(run)), None)


def made_of(task: Any, num_processes: int) -> dict[str, Any]:
    """Of a checkpoint's state, what `check_made_of` looks at."""
    return {
        "processes": num_processes,
        "made_from": task.made_from,
        "class_names": list(task.class_names),
        "data": task.data_hash,
    }


def check_made_of(found: Checkpoint, task: Any, moved: Sequence[str], run: Path) -> None:
    """ValueError if a run is resumed on other weights, classes or data than it was trained on."""
    state = found.state
    if state["made_from"] != task.made_from:
        raise ValueError(
            f"{run} was trained with {state['made_from']}, not with {task.made_from}: {NEW_RUN}"
        )
    names = state.get("class_names", list(task.class_names))
    if names != list(task.class_names):
        raise ValueError(
            f"{run} was trained on other classes ({changes(names, task.class_names)}): {NEW_RUN}"
        )
    before, now = state.get("data", ""), task.data_hash
    if before and now and before != now:
        raise ValueError(
            f"{run} was trained on other images (names, sizes or labels of files differ): {NEW_RUN}"
        )
    if moved and not (before and now):
        raise ValueError(
            f"{run} does not know its data well enough to find it elsewhere ({', '.join(moved)}): "
            f"{NEW_RUN}"
        )


def take_weights(
    module: nn.Module,
    path: Path,
    kind: str,
    classes: Classes | None = None,
    *,
    prefix: str = "",
    of: str = "",
) -> None:
    """Copy from a file of weights what fits into a module; stderr names what is new.

    Rows of classes go to the classes of the same names, the row of no class to its own. prefix: of
    the names of the part of the module that is meant.
    """
    classes = classes or Classes()
    _, tensors = load_weights(path, kind)
    own = {k: v for k, v in module.state_dict(keep_vars=True).items() if k.startswith(prefix)}
    new = []
    with torch.no_grad():
        for name, target in own.items():
            value = tensors.get(of + name.removeprefix(prefix))
            if value is not None and name.endswith(classes.tensors) and classes.before:
                classes.copy(value, target)
            elif value is not None and value.shape == target.shape:
                target.copy_(value)
            else:
                new.append(name)
    anew = f", but {', '.join(new[:5])}{', ...' * (len(new) > 5)} start anew" if new else ""
    if this_process().is_main_process:
        print(f"took {len(own) - len(new)} tensors of {path}{anew}", file=sys.stderr, flush=True)


OF_CLASSES = ("label_embedding.weight",)
"""The ends of the names of a backbone's tensors that have a row for each class."""


class Classes(NamedTuple):
    """Which classes a model knew and will know, and the ends of the names of tensors that have a
    row for each of them, perhaps with one for none after them."""

    before: Sequence[str] = ()
    now: Sequence[str] = ()
    tensors: tuple[str, ...] = ()

    def copy(self, value: Tensor, target: Tensor) -> None:
        """Rows of one tensor, where a class of that name was known; others stay."""
        there = {name: row for row, name in enumerate(self.before)}
        rows = {row: there[name] for row, name in enumerate(self.now) if name in there}
        if len(value) > len(self.before) and len(target) > len(self.now):
            rows[len(self.now)] = len(self.before)
        if value.shape[1:] == target.shape[1:]:
            for row, before in rows.items():
                target[row] = value[before]
