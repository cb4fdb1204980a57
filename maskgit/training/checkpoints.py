"""The checkpoints of a run folder.

    run/config.yaml  metrics.jsonl  quarantine.jsonl  previews/  the exported weights
    run/checkpoints/step_00000500/

A checkpoint is a folder of safetensors and JSON with a sha256 manifest. It is written aside,
flushed to the disk, renamed, and only then are older ones pruned: whatever moment a process is
killed at, the newest that verifies is whole. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from vqgan import files
from vqgan.files import TEMPORARY, flush, naming_what_is_full, sha256, share, temporary


class Checkpoint(NamedTuple):
    """What `load_latest` finds."""

    step: int
    tensors: dict[str, dict[str, Tensor]]  # file name -> tensors
    state: dict[str, Any]


def save_checkpoint(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write `checkpoints/step_N`, whole or absent after any kill; keep the newest `keep`."""
    folder = run / "checkpoints"
    target = folder / f"step_{step:08d}"
    aside = temporary(target)
    with naming_what_is_full(target):
        try:
            _write(aside, {"step": step, **state}, tensors)
        except BaseException:
            files.remove(aside)
            raise
    if target.exists():  # an earlier, broken one of the same step
        remove_folder(target)
    os.rename(aside, target)
    flush(folder)
    older = [path for path in checkpoints(run) if path.name <= target.name]
    # broken: we resumed from before them
    newer = [path for path in checkpoints(run) if path.name > target.name]
    for path in (*older[:-keep], *newer):
        remove_folder(path)
    return target


def _write(
    folder: Path, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """All files of a checkpoint, the manifest last, flushed."""
    files.remove(folder)
    folder.mkdir(parents=True)
    for name, values in tensors.items():
        path = folder / f"{name}.safetensors"
        save_file({k: v.detach().cpu().contiguous() for k, v in values.items()}, path)
        share(path)
    (folder / "state.json").write_text(json.dumps(state))
    manifest = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for path in (*folder.iterdir(), folder):
        flush(path)


def remove_folder(path: Path) -> None:
    """Rename it away first, so that it is never seen half removed."""
    doomed = path.with_name(f"{TEMPORARY}old-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, verified or not."""
    return sorted((run / "checkpoints").glob("step_*"))


def why_broken(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or none.

    OSError if it cannot be looked at: that says nothing about it.
    """
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_bytes())
        known = isinstance(manifest, dict) and {"state.json"} <= manifest.keys()
    except (FileNotFoundError, ValueError, RecursionError) as error:
        return f"its manifest cannot be read ({type(error).__name__})"
    if not known:
        return "its manifest is not one of ours"
    for name, digest in manifest.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if sha256(checkpoint / name) != digest:
            return f"{name} does not match its sha256"
    return None


def clean(run: Path) -> None:
    """Remove what interrupted saves left behind, of checkpoints, pictures and exported weights."""
    for folder in ("checkpoints", "previews", "pipeline"):
        files.clean(run / folder)


def latest_good(run: Path) -> Path | None:
    """The newest checkpoint that verifies."""
    return next((path for path in reversed(checkpoints(run)) if why_broken(path) is None), None)


def find_latest(
    run: Path, suits: Callable[[dict[str, Any]], bool] = lambda state: True
) -> Path | None:
    """The newest checkpoint that verifies and whose state suits, none if there is not one at all.

    stderr names those that do not verify, and why. ValueError if that is all of them: a run never
    starts anew unasked. OSError if one cannot be looked at, by its rights or the disk's fault.
    """
    found, some_verify = checkpoints(run), False
    for path in reversed(found):
        if reason := why_broken(path):
            print(f"skipped the checkpoint {path}: {reason}", file=sys.stderr, flush=True)
            continue
        some_verify = True
        if suits(_state(path)):
            return path
    if found and not some_verify:
        raise ValueError(
            f"none of the {len(found)} checkpoints of {run} can be read: copy one back from "
            "elsewhere, or set run=... to start a new run"
        )
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """All that a checkpoint holds, which `find_latest` has verified."""
    state = _state(path)
    tensors = {p.stem: load_file(p) for p in path.glob("*.safetensors")}
    return Checkpoint(state["step"], tensors, state)


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / "state.json").read_bytes())
    return state


def load_latest(run: Path) -> Checkpoint | None:
    """What `find_latest` finds, read."""
    path = find_latest(run)
    return read_checkpoint(path) if path else None
