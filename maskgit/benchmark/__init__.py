"""Us against the peers and against the machine, side by side in one run.

    out/benchmark.json  benchmark.md  benchmark.png

Every line is the median of alternating turns, with the extremes; every side in its own best precision and attention.
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from maskgit.benchmark.parts import PARTS, Plan, Row, machine
from maskgit.benchmark.timing import Spread
from maskgit.plots import bars
from maskgit.processes import this_process
from vqgan.registry import choose
from vqgan.weights import replacing

QUICK = Plan(cells=(64, 256), params=(5,), batch=(8,), rounds=(8,), seconds=4.0, longest=90.0)
"""Few sizes: the whole picture in five minutes."""


def run_benchmark(only: Sequence[str], plan: Plan, out: Path) -> str:
    """Run the parts (all, if none is named) -> tables in Markdown, also written to `out` with JSON and a picture."""
    parts = [choose(PARTS, name, "part") for name in (only or PARTS)]
    rows = list(machine(plan))
    for part in parts:
        for row in part(plan):
            rows.append(row)
            _write(rows, out)  # what is measured is kept, whatever comes after
    text = tables(rows)
    with replacing(out / "benchmark.md") as aside:
        aside.write_text(text + "\n")
    compared = [row for row in rows if "time over ours" in row]
    paths = [out / "benchmark.json", out / "benchmark.md"]
    if compared:
        paths.append(bars(_bars(compared), out / "benchmark.png"))
    return "\n".join([text, "", *map(str, paths)])


def _place(row: Row) -> str:
    rounds = f", {row['rounds']} rounds" if "rounds" in row else ""
    return f"{row['part']}: {row['cells']} cells, {row['million parameters']} M, batch {row['batch']}{rounds}"


def _bars(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """place -> side -> its speed over ours."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(_place(row), {})[row["side"]] = 1 / row["time over ours"].median
    return found


def versions() -> dict[str, str]:
    """Of everything that is timed; what is not installed is left out."""
    names = ("torch", "x-transformers", "muse-maskgit-pytorch", "diffusers", "maskgit-torch")
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _write(rows: Sequence[Row], out: Path) -> None:
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {this_process().device}",
        "versions": versions(),
    }
    plain = [{k: v._asdict() if isinstance(v, Spread) else v for k, v in row.items()} for row in rows]
    with replacing(out / "benchmark.json") as aside:
        aside.write_text(json.dumps(about | {"rows": plain}, indent=1) + "\n")


def tables(rows: Sequence[Row]) -> str:
    """A Markdown table for each part."""
    lines: list[str] = []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        heads = list(dict.fromkeys(key for row in mine for key in row if key != "part"))
        lines += ["", f"**{part}**", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        lines += [f"| {' | '.join(_cell(row.get(head, '')) for head in heads)} |" for row in mine]
    return "\n".join(lines).strip()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value / 1e6:.1f} M" if isinstance(value, int) and value > 10**5 else str(value)
