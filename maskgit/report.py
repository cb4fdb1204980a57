"""The results of an evaluation: a table and pictures for people, JSON for programs, a Markdown row to paste."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskgit.features import FeatureSet
from maskgit.image_sets import ImageSet
from maskgit.images import save_png, to_float
from maskgit.metrics import neighbours
from maskgit.order import spread
from maskgit.plots import image_grid
from vqgan.files import replacing

PICTURED, NEAREST = 10, 5


class Number(NamedTuple):
    """One line of the table."""

    value: float
    half_width: float  # of the 95 % interval, nan with too few images
    floor: float | None  # the same number for real images
    better: str  # "lower" or "higher"


def write_report(
    out: Path, results: Mapping[str, Any], found: Mapping[str, Number], notes: Sequence[str], pictures: Sequence[str]
) -> str:
    """Write out/results.json and out/results.md -> the table, with the paths of all that lies in `out`.

    results: how the numbers were made, JSON values; notes: lines under the table.
    """
    numbers = {name: number._asdict() for name, number in found.items()}
    for values in numbers.values():
        values["half_width"] = None if math.isnan(values["half_width"]) else values["half_width"]
    with replacing(out / "results.json") as aside:
        aside.write_text(json.dumps({**results, "numbers": numbers}, indent=1) + "\n")
    heads = ["of", "samples", *found]
    row = [results["of"], str(results["samples"]["count"]), *map(_shown, found.values())]
    floors = ["real images", "", *("" if n.floor is None else f"{n.floor:.4g}" for n in found.values())]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), row, floors)]
    with replacing(out / "results.md") as aside:
        aside.write_text("\n".join(lines) + "\n")
    written = [out / name for name in ("results.json", "results.md", *pictures)]
    worst = _worst(results.get("by class") or {})
    return "\n".join([*_table(results, found), *worst, *notes, "", *map(str, written)])


def _worst(classes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The class whose mean features are furthest from real ones, beside the middle of all."""
    if len(classes) < 2:
        return []
    name, numbers = max(classes.items(), key=lambda item: item[1]["shift"])
    agreement = f", agreement {numbers['agreement']:.3g}" if "agreement" in numbers else ""
    middle = median(entry["shift"] for entry in classes.values())
    shift = f"mean features {numbers['shift']:.3g} from real ones, {middle:.3g} in the middle{agreement}"
    return [f"furthest class: {name} ({shift})"]


def _table(results: Mapping[str, Any], found: Mapping[str, Number]) -> list[str]:
    titles = ("of", "samples", "reference", "held out", "features", "judge", "floor")
    lines = [f"{title:<10} {_words(results[title])}" for title in titles if results.get(title)]
    lines += ["", f"{'':<18}{'value':>10}  {'95 % interval':<20}{'real images':>12}"]
    for name, number in found.items():
        low, high = number.value - number.half_width, number.value + number.half_width
        interval = "too few images" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
        real = "" if number.floor is None else f"{number.floor:.4g}"
        lines.append(f"{name:<18}{number.value:>10.4g}  {interval:<20}{real:>12}  {number.better} is better")
    return lines


def _shown(number: Number) -> str:
    return f"{number.value:.4g}" + ("" if math.isnan(number.half_width) else f" ± {number.half_width:.2g}")


def _words(about: Any) -> str:
    """Nested values in one line; a hash by its first digits."""
    if isinstance(about, Mapping):
        return ", ".join(f"{key} {_words(value)}" for key, value in about.items())
    return about[:16] if isinstance(about, str) and len(about) == 64 else str(about)


def draw_pictures(out: Path, real: ImageSet, fake: ImageSet, sets: Mapping[str, FeatureSet]) -> list[str]:
    """Draw samples.png and neighbours.png, some samples beside their nearest reference images -> their names.

    sets: what the network sees of both, "real" and "fake".
    """
    images = _some(fake, range(min(fake.num_images, 10 * PICTURED)))
    save_png(image_grid(to_float(images), num_columns=PICTURED), out / "samples.png")
    last = len(sets["fake"].features) - 1
    shown = [min(n + k, last) for k, n in enumerate(spread(last + 1, PICTURED))]  # not all of one label
    near = neighbours(sets["real"], sets["fake"].take(torch.tensor(shown)), NEAREST).indices
    samples = _some(fake, sets["fake"].indices[shown].tolist())
    nearest = _some(real, near.flatten().tolist()).unflatten(0, near.shape)
    rows = torch.cat((samples[:, None], nearest), dim=1).flatten(0, 1)
    names = [f"sample {number}, nearest {near.shape[1]}" for number in shown]
    picture = image_grid(to_float(rows), num_columns=1 + near.shape[1], row_names=names)
    save_png(picture, out / "neighbours.png")
    return ["samples.png", "neighbours.png"]


def _some(images: ImageSet, numbers: Sequence[int]) -> Tensor:
    """uint8 (n, c, h, w) of the images with these numbers; neighbouring numbers are read together."""
    chunks: list[range] = []
    for number in numbers:
        if chunks and chunks[-1].stop == number:
            chunks[-1] = range(chunks[-1].start, number + 1)
        else:
            chunks.append(range(number, number + 1))
    return torch.cat(list(images.read(chunks)))
