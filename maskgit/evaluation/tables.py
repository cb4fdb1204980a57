"""Tables in Markdown, and results that stay where they are when a command is run again.

FILE.json  {"made of": what they depend on, "found": the results}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from vqgan.files import replacing


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The heads, a rule, and the rows, of as many cells; without a newline at the end."""
    lines = [_line(heads), "|" + "---|" * len(heads), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Iterable[object]) -> str:
    return "|" + "|".join(f" {cell} " if str(cell) else " " for cell in cells) + "|"


def shown(value: float | None, half_width: float | None = None, digits: int = 4) -> str:
    """`4.163 ± 0.18`; alone without a known interval (none, or nan); empty for none."""
    if value is None:
        return ""
    width = "" if half_width is None or math.isnan(half_width) else f" ± {half_width:.2g}"
    return f"{value:.{digits}g}{width}"


def over_seeds(values: Sequence[float]) -> str:
    """The mean, and half of the range; an empty cell if there are none."""
    return shown(mean(values), (max(values) - min(values)) / 2) if values else ""


def write_text(path: Path, text: str) -> None:
    """The text and a newline; whole, or not at all."""
    with replacing(path) as aside:
        aside.write_text(text + "\n")


def write_json(path: Path, value: Any) -> None:
    """JSON, a value on a line; whole, or not at all."""
    write_text(path, json.dumps(value, indent=1))


def known(path: Path, made_of: Mapping[str, Any]) -> Any:
    """What was kept at `path`, if it was made of the same; else none."""
    if not path.is_file():
        return None
    there = json.loads(path.read_text())
    return there.get("found") if there.get("made of") == _as_json(made_of) else None


def keep(path: Path, made_of: Mapping[str, Any], found: Any) -> Any:
    """Write JSON values to `path` -> the same as `known` will read there."""
    write_json(path, {"made of": made_of, "found": found})
    return _as_json(found)


def kept(path: Path, made_of: Mapping[str, Any], work: Callable[[], Any]) -> Any:
    """What `work` returns: from the file at `path` if it was made of the same, else done and kept.

    None is not kept: that is what all processes but the main one have, which keeps it for all.
    """
    there = known(path, made_of)
    if there is not None:
        return there
    found = work()
    return None if found is None else keep(path, made_of, found)


def _as_json(value: Any) -> Any:
    """What comes back of a value that is written: tuples as lists, keys as texts."""
    return json.loads(json.dumps(value))
