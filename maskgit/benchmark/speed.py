"""Us against the peers and against the machine, side by side in one run.

    out/benchmark.json  benchmark.md  benchmark.png

What earlier calls measured into the folder, on the same machine with the same versions, stays.

Every line is the median of alternating turns, with the extremes; every side in its own best
precision and attention.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from maskgit.benchmark.parts import PARTS, machine
from maskgit.benchmark.plan import OURS, Plan, Row, talk
from maskgit.benchmark.timing import Spread
from maskgit.evaluation.tables import keep, known, markdown, write_text
from maskgit.plots import dots
from maskgit.processes import this_process
from vqgan.registry import choose

QUICK = Plan(cells=(64, 256), params=(5,), batch=(8,), rounds=(8,), seconds=4.0, longest=90.0)
"""Few sizes: the whole picture in five minutes."""


def run_benchmark(only: Sequence[str], plan: Plan, out: Path) -> str:
    """Run the parts (all, if none is named) -> Markdown tables; `out` has JSON and picture, too."""
    parts = [choose(PARTS, name, "part") for name in (only or PARTS)]
    rows = _merged(_kept(out), list(machine(plan)))
    for part in parts:
        for row in part(plan):
            rows = _merged(rows, [row])
            _write(rows, out)  # what is measured is kept, whatever comes after
    return show(rows, out)


def show(rows: Sequence[Row], out: Path) -> str:
    """Tables in Markdown, also written to `out` with a picture."""
    text = tables(rows)
    write_text(out / "benchmark.md", text)
    compared = [row for row in rows if "time over ours" in row]
    paths = [out / "benchmark.json", out / "benchmark.md"]
    if compared:
        paths.append(
            dots(_dots(compared), out / "benchmark.png", x="time, ours = 1 (median and extremes)")
        )
    return "\n".join([text, "", *map(str, paths)])


def _place(row: Row) -> str:
    sizes = f"{row['cells']} cells, {row['million parameters']} M, batch {row['batch']}"
    return f"{row['part']}: {sizes}" + (f", {row['rounds']} rounds" if "rounds" in row else "")


def _dots(rows: Sequence[Row]) -> dict[str, dict[str, Spread]]:
    """place -> side -> its time over ours, but our own."""
    found: dict[str, dict[str, Spread]] = {}
    for row in rows:
        if row["side"] != OURS:
            found.setdefault(_place(row), {})[row["side"]] = row["time over ours"]
    return found


SIZES = ("million parameters", "cells", "pixels", "batch", "rounds")


def _shape(row: Row) -> tuple[int, ...]:
    """The part's place in its table and the sizes: rows of one shape are measured together."""
    part = [*PARTS].index(row["part"]) if row["part"] in PARTS else -1
    return (part, *(row.get(key, 0) for key in SIZES))


def _merged(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Both by shape; the newest of equal lines counts, and of one that says "all" were left out."""
    found = {(_shape(row), row["side"]): row for row in rows}
    for row in new:
        shape, all_sides = _shape(row), (_shape(row), "all")
        if row["side"] == "all" and any(key[0] == shape and key != all_sides for key in found):
            continue  # measured by an earlier call, which had more time
        found.pop(all_sides, None)
        found[shape, row["side"]] = row
    return sorted(found.values(), key=_shape)


def _about() -> dict[str, Any]:
    """What numbers may stand beside each other: those of one machine and the same versions."""
    state = f"{platform.machine()}, {torch.get_num_threads()} threads, {this_process().device}"
    return {"machine": state, "versions": versions()}


def _kept(out: Path) -> list[Row]:
    """The rows of earlier calls."""
    path = out / "benchmark.json"
    found = known(path, _about())
    if found is not None:
        return [
            _with_values(row, lambda v: Spread(**v) if isinstance(v, dict) else v)
            for row in found["rows"]
        ]
    if path.is_file():
        talk(f"{path} is of another machine or other versions: it is overwritten")
    return []


def versions() -> dict[str, str]:
    """Of everything that is timed; what is not installed is left out."""
    names = ("torch", "x-transformers", "muse-maskgit-pytorch", "diffusers", "maskgit-torch")
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _write(rows: Sequence[Row], out: Path) -> None:
    plain = [
        _with_values(row, lambda v: v._asdict() if isinstance(v, Spread) else v) for row in rows
    ]
    date = datetime.now(UTC).isoformat(timespec="seconds")
    keep(out / "benchmark.json", _about(), {"date": date, "rows": plain})


def _with_values(row: Row, change: Callable[[Any], Any]) -> Row:
    return {key: change(value) for key, value in row.items()}


def tables(rows: Sequence[Row]) -> str:
    """A Markdown table for each part."""
    found = []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        heads = list(dict.fromkeys(key for row in mine for key in row if key != "part"))
        table = markdown(heads, [[_cell(row.get(head, "")) for head in heads] for row in mine])
        found.append(f"**{part}**\n\n{table}")
    return "\n\n".join(found)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value / 1e6:.1f} M" if isinstance(value, int) and value > 10**5 else str(value)
