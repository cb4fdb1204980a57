"""Where a run's judge lies, if nobody says: beside it, elsewhere among the runs, or in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from maskgit.config.sections import DataConfig
from maskgit.machine import cache_folder, warn_once
from maskgit.pipeline.saved import class_names_of, data_of, pipeline_folder
from vqgan.weights import load_weights

FILE = "classifier.safetensors"
CALLED = ("classifier", "judge")
"""What is in the name of a judge's folder; others are what a loss saw, or a witness."""
RUNS = Path("runs")


def beside(run: Path | None, name: str = "classifier") -> Path | None:
    """The classifier that lies beside a run, or another one by its folder's name."""
    path = run.parent / name if run is not None else None
    return path if path is not None and (path / FILE).is_file() else None


def judge_of(run: Path | None) -> Path | None:
    """The judge of a generator: `classifier` beside it, else one that was trained on its images.

    That may be below the run, beside it, in `runs`, or in the cache, where `--judge auto` keeps
    those of models that lie in no run; a line on stderr says which one is taken.
    """
    if run is None or (own := beside(run)) is not None:
        return None if run is None else own
    if not (pipeline_folder(run) / "config.json").is_file():
        return None
    found = next((path for path in _candidates(run) if _is_of(path / FILE, run)), None)
    if found is not None:
        warn_once(f"judged by {found}, which was trained on the same images (--judge: another)")
    return found


def kept_judge(run: Path) -> Path:
    """The folder of the cache for the judge of a model that lies in no run of one's own."""
    folder = pipeline_folder(run)
    about = json.dumps([data_of(folder), class_names_of(folder)], sort_keys=True)
    return (
        cache_folder() / "judges" / f"classifier-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    )


def _candidates(run: Path) -> Iterator[Path]:
    around = (run, run.parent, run.parent.parent, RUNS)
    for place, depth in [(place, depth) for place in around for depth in (1, 2)]:
        found = [path.parent for path in place.glob("*/" * depth + FILE)]
        yield from sorted(path for path in found if any(word in path.name for word in CALLED))
    kept = kept_judge(run)
    if (kept / FILE).is_file():
        yield kept


ALIKE = ("source", "channels", "image_size", "resize", "resample", "background")
"""What a judge's images have in common with those of the model."""


def _cut(data: Mapping[str, Any]) -> dict[str, Any]:
    """A data section with what was the default before there was a choice."""
    kept = DataConfig.model_fields
    return {key: data.get(key, kept[key].default) for key in ALIKE}


def _is_of(weights: Path, run: Path) -> bool:
    """Whether a classifier was trained on the images of a run, and knows its classes."""
    header: Mapping[str, Any] = {}
    with suppress(ValueError, OSError):
        header = load_weights(weights, "classifier")[0]
    folder = pipeline_folder(run)
    data = (header.get("run") or {}).get("data") or {}
    alike = all(_cut(data)[key] == _cut(data_of(folder))[key] for key in ALIKE)
    return bool(data) and alike and header.get("class_names") == class_names_of(folder)
