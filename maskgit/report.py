"""The results of an evaluation: a table for people, JSON for programs, a Markdown row to paste."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vqgan.weights import replacing


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
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), f"| {' | '.join(row)} |"]
    with replacing(out / "results.md") as aside:
        aside.write_text("\n".join(lines) + "\n")
    written = [out / name for name in ("results.json", "results.md", *pictures)]
    return "\n".join([*_table(results, found), *notes, "", *map(str, written)])


def _table(results: Mapping[str, Any], found: Mapping[str, Number]) -> list[str]:
    titles = ("of", "samples", "reference", "features", "judge", "floor")
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
