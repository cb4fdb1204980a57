"""The results of an evaluation: a table and pictures, JSON, and a Markdown row to paste."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from maskgit.data.order import spread
from maskgit.data.pixels import save_png, to_float
from maskgit.evaluation.feature_sets import FeatureSet
from maskgit.evaluation.image_sets import ImageSet
from maskgit.evaluation.metrics import neighbours
from maskgit.evaluation.tables import markdown, shown, write_json, write_text
from maskgit.pictures import image_grid

PICTURED, NEAREST = 10, 5


class Number(NamedTuple):
    """One line of the table."""

    value: float
    half_width: float  # of the 95 % interval, nan with too few images
    floor: float | None  # the same number for real images
    better: str  # "lower" or "higher"

    def as_json(self) -> dict[str, Any]:
        """JSON values; where there is no interval, its half width is none."""
        width = None if math.isnan(self.half_width) else self.half_width
        return {**self._asdict(), "half_width": width}


@dataclass(frozen=True)
class Results:
    """What an evaluation returns; `write_report` writes it down, and nobody reads it back."""

    about: dict[str, Any]  # JSON values: how the numbers were made: of, date, command, weights, ...
    numbers: dict[str, Number]
    notes: tuple[str, ...]  # lines under the table
    pictures: dict[str, Image.Image]  # file name -> picture

    def as_json(self) -> dict[str, Any]:
        """What results.json holds."""
        numbers = {name: number.as_json() for name, number in self.numbers.items()}
        return self.about | {"numbers": numbers}


def provenance(of: str) -> dict[str, str]:
    """What the results begin with: of what, when, and by which command."""
    return {
        "of": of,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def library_versions() -> dict[str, str]:
    """Of what the numbers depend on, as far as it is installed."""
    found = {}
    for name in ("torch", "torch-fidelity", "torchmetrics", "prdc", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def left_out_notes(reasons: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each metric that is left out."""
    return tuple(f"left out: {name}: {reason}" for name, reason in reasons.items())


def write_report(results: Results, out: Path) -> str:
    """Write results.json, results.md and pictures to `out` -> the table, with all paths."""
    write_json(out / "results.json", results.as_json())
    write_text(out / "results.md", _row(results))
    for name, picture in results.pictures.items():
        save_png(picture, out / name)
    written = [out / name for name in ("results.json", "results.md", *results.pictures)]
    worst = _worst(results.about.get("by class") or {})
    return "\n".join([*_table(results), *worst, *results.notes, "", *map(str, written)])


def _row(results: Results) -> str:
    """A row of the numbers, and below it the same of real images."""
    about, numbers = results.about, results.numbers.values()
    values = [shown(number.value, number.half_width) for number in numbers]
    rows = [
        [about["of"], about["samples"]["count"], *values],
        ["real images", "", *(shown(number.floor) for number in numbers)],
    ]
    return markdown(["of", "samples", *results.numbers], rows)


def _worst(classes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The class whose mean features are furthest from real ones, beside the middle of all."""
    if len(classes) < 2:
        return []
    name, numbers = max(classes.items(), key=lambda item: item[1]["shift"])
    agreement = f", agreement {numbers['agreement']:.3g}" if "agreement" in numbers else ""
    middle = median(entry["shift"] for entry in classes.values())
    shift = f"mean features {numbers['shift']:.3g} from real ones, {middle:.3g} in the middle"
    return [f"furthest class: {name} ({shift}{agreement})"]


def _table(results: Results) -> list[str]:
    titles = ["of", "samples", "reference", "held out", "features", "judge", "floor"]
    titles += ["other features", "two-sample test"]
    about = results.about
    lines = [f"{title:<10} {_words(about[title])}" for title in titles if about.get(title)]
    lines += ["", f"{'':<18}{'value':>10}  {'95 % interval':<20}{'real images':>12}"]
    for name, number in results.numbers.items():
        low, high = number.value - number.half_width, number.value + number.half_width
        interval = "too few images" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
        row = f"{name:<18}{number.value:>10.4g}  {interval:<20}{shown(number.floor):>12}"
        lines.append(f"{row}  {number.better} is better")
    return lines


def _words(about: Any) -> str:
    """Nested values in one line; a hash by its first digits."""
    if isinstance(about, Mapping):
        return ", ".join(f"{key} {_words(value)}" for key, value in about.items())
    if isinstance(about, list):
        return " + ".join(map(_words, about))
    return about[:16] if isinstance(about, str) and len(about) == 64 else str(about)


def draw_pictures(
    real: ImageSet, fake: ImageSet, sets: Mapping[str, FeatureSet]
) -> dict[str, Image.Image]:
    """samples.png, and neighbours.png: some samples beside their nearest reference images.

    sets: what the network sees of both, "real" and "fake".
    """
    images = _some(fake, range(min(fake.num_images, 10 * PICTURED)))
    grid = image_grid(to_float(images), num_columns=PICTURED)
    last = len(sets["fake"].features) - 1
    # a step further each time, so that not all are of one label
    chosen = [min(n + k, last) for k, n in enumerate(spread(last + 1, PICTURED))]
    near = neighbours(sets["real"], sets["fake"].take(torch.tensor(chosen)), NEAREST).indices
    samples = _some(fake, sets["fake"].indices[chosen].tolist())
    nearest = _some(real, near.flatten().tolist()).unflatten(0, near.shape)
    rows = torch.cat((samples[:, None], nearest), dim=1).flatten(0, 1)
    names = [f"sample {number}, nearest {near.shape[1]}" for number in chosen]
    beside = image_grid(to_float(rows), num_columns=1 + near.shape[1], row_names=names)
    return {"samples.png": grid, "neighbours.png": beside}


def _some(images: ImageSet, numbers: Sequence[int]) -> Tensor:
    """uint8 (n, c, h, w) of the images of these numbers; neighbouring ones are read together."""
    chunks: list[range] = []
    for number in numbers:
        if chunks and chunks[-1].stop == number:
            chunks[-1] = range(chunks[-1].start, number + 1)
        else:
            chunks.append(range(number, number + 1))
    return torch.cat(list(images.read(chunks)))
