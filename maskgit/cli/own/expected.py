"""Is mine normal? One's own curves beside those of trainings of this repository that went well."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from maskgit.plots import figure

CURVES = {
    "vqgan": ("psnr", "the tokenizer's reconstructions: PSNR, dB"),
    "maskgit": ("bits", "the generator: bits a code, of log2(codes)"),
}
"""stage -> what is drawn of it, over the share of its steps."""
Rows = Mapping[str, Sequence[Mapping[str, Any]]]


@cache
def references() -> dict[str, dict[str, list[list[float]]]]:
    """name of a training -> psnr, bits -> (share of the steps, value)."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("expected.json").read_text())
    return {name: values["curves"] for name, values in found.items()}


def own_curves(rows: Rows, codebook_size: int) -> dict[str, list[tuple[float, float]]]:
    """psnr and bits (as a share of log2 of the codes), by the share of the stage's steps."""
    found = {}
    for stage, (name, _) in CURVES.items():
        key, whole = (
            ("psnr", 1.0) if name == "psnr" else ("bits_per_code", math.log2(codebook_size))
        )
        points = [(row["step"], row[key] / whole) for row in rows.get(stage, ()) if key in row]
        last = max((step for step, _ in points), default=1)
        found[name] = [(step / last, value) for step, value in points]
    return found


def expected_curves(rows: Rows, codebook_size: int, path: Path) -> Path:
    """Two panels: PSNR and bits, one's own thick, the references thin."""
    own = own_curves(rows, codebook_size)
    with figure(path, (9, 3.4), 1, len(CURVES)) as (_, axes):
        for axis, (name, title) in zip(axes.flat, CURVES.values(), strict=True):
            for reference, curves in references().items():
                if curves.get(name):
                    across, up = zip(*curves[name], strict=True)
                    axis.plot(across, up, "--o", linewidth=1, markersize=4, label=reference)
            if own[name]:
                across, up = zip(*own[name], strict=True)
                axis.plot(across, up, "o-", color="black", linewidth=2, markersize=3, label="yours")
            axis.set(title=title, xlabel="share of the training")
            axis.title.set_fontsize(10)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
    return path


def is_normal(rows: Rows, codebook_size: int) -> list[str]:
    """A sentence for each curve: how its end compares with those of the references."""
    own, said = own_curves(rows, codebook_size), []
    for name, (write, sign) in SAID.items():
        others = [curves[name][-1] for curves in references().values() if curves.get(name)]
        ends = [value for share, value in others if share == 1.0]
        if not own[name] or not ends:
            continue
        mine, worst, best = own[name][-1][1], min(ends, key=sign), max(ends, key=sign)
        place = "within" if sign(worst) <= sign(mine) <= sign(best) else "outside"
        if place == "outside":
            place = "better than" if sign(mine) > sign(best) else "worse than"
        span = write(best) if worst == best else f"{write(worst)} to {write(best)}"
        said.append(
            f"Is it normal? {TITLES[name]} {write(mine)}: {place} what our trainings on grey "
            f"pictures of 28 px ended with ({span})."
        )
    return said


TITLES = {"psnr": "PSNR", "bits": "Bits a code, of the most that there can be,"}
SAID: dict[str, tuple[Callable[[float], str], Callable[[float], float]]] = {
    "psnr": (lambda value: f"{value:.1f} dB", lambda value: value),
    "bits": (lambda value: f"{value:.0%}", lambda value: -value),
}
"""How a number is written, and what is greater the better it is."""
