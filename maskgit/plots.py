"""Plots: curves, dots, bars, heat maps and lines as PNGs (all that imports matplotlib); and fonts
for the words in pictures."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFont
from torch import Tensor

from vqgan.files import replacing

CURVES = ("loss", "validation_loss", "bits_per_code", "psnr", "accuracy", "codes_used")
"""The numbers of a metrics.jsonl that `curves` shows."""


FONT_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts",
    "/Library/Fonts", "/System/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
"""Where systems keep fonts."""
MISSING = chr(0x10FFFF)
"""No font has it."""


def font_of(text: str) -> tuple[Path | None, str]:
    """(a file of a font that has all letters of a text, none for the usual one; the text).

    Matplotlib's own font has Latin, Greek, Cyrillic, Arabic, ...; else one of the system is looked
    for. Where none has them, the text comes with their numbers, and stderr is told.
    """
    letters = "".join(sorted({letter for letter in text if letter > "~"}))
    path = _font_with(letters) if letters else None
    if path is None and letters:
        text = text.encode("ascii", "backslashreplace").decode()
    return path, text


@cache
def _font_with(letters: str) -> Path | None:
    found = next((path for path in _fonts() if has_letters(path, letters)), None)
    if found is None:
        print(
            f"warning: no font here has {letters[:20]}: pictures show numbers in their places "
            "(install one that has, such as Noto Sans CJK)",
            file=sys.stderr,
        )
    return found


@cache
def _fonts() -> list[Path]:
    """Files of fonts, matplotlib's first, upright ones before others; .ttc hold several."""
    own = find_spec("matplotlib")
    first = [] if own is None else [Path(str(own.origin)).with_name("mpl-data") / OWN_FONT]
    paths = (
        Path(folder, name)
        for place in FONT_FOLDERS
        for folder, _, names in os.walk(Path(place).expanduser())
        for name in names
    )
    found = [path for path in paths if path.suffix.lower() in (".ttf", ".otf", ".ttc")]
    slanted = ("Bold", "Italic", "Oblique", "Mono")
    return [*first, *sorted(found, key=lambda path: (any(w in path.name for w in slanted), path))]


OWN_FONT = "fonts/ttf/DejaVuSans.ttf"
"""Matplotlib's, in its data."""


def has_letters(path: Path, letters: Iterable[str]) -> bool:
    """Whether a font draws each of these as something of its own."""
    with suppress(OSError, ValueError):
        font = ImageFont.truetype(path, 20)
        missing = bytes(font.getmask(MISSING))
        return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in letters)
    return False


@contextmanager
def figure(
    path: Path | io.BytesIO,
    size: tuple[float, float],
    rows: int = 1,
    columns: int = 1,
) -> Iterator[tuple[Any, Any]]:
    """A figure of `size` inches, across and down, and its axes (rows, columns).

    Written to `path` at the end. matplotlib is imported here only, since that takes as long as many
    a command; no window is ever opened.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    try:
        yield drawn, axes
        with replacing(path) if isinstance(path, Path) else nullcontext(path) as aside:
            drawn.savefig(aside, format="png", dpi=110)
    finally:
        plt.close(drawn)


def curves(rows: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> Path:
    """A panel for each metric of each run: rows maps a title to the rows of its metrics.jsonl."""
    panels = _panels(rows)
    columns = min(3, max(1, len(panels)))
    height = -(-len(panels) // columns)
    with figure(path, (4.2 * columns, 3 * height), height, columns) as (_, axes):
        for axis in axes.flat[len(panels) :]:
            axis.remove()
        for axis, (title, series) in zip(axes.flat, panels.items(), strict=False):
            for key, points in series.items():
                steps, values = zip(*points, strict=True)
                marker = "." if len(steps) < 30 else None
                axis.plot(steps, values, label=key.replace("_", " "), marker=marker)
            axis.set(title=title, xlabel="step")
            axis.grid(alpha=0.3)
            axis.legend()
    return path


def _panels(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """title of a panel -> key -> (step, value)s; a run's loss and validation loss share one."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, run in rows.items():
        for key in CURVES:
            points = [(row["step"], row[key]) for row in run if key in row]
            if points:
                panel = f"{title}: {'loss' if key == 'validation_loss' else key}"
                panels.setdefault(panel, {})[key] = points
    return panels


def dots(groups: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, x: str) -> Path:
    """A row for each place, and in it a dot and a line for each side.

    The dot is its median, the line leads from its least to its greatest.
    """
    sides = list(dict.fromkeys(side for group in groups.values() for side in group))
    height = 0.6 / len(sides)
    with figure(path, (9, 1.2 + 0.3 * len(groups))) as (drawn, [[axis]]):
        for number, side in enumerate(sides):
            places = [(k, *group[side]) for k, group in enumerate(groups.values()) if side in group]
            columns = zip(*places, strict=True)
            rows, medians, lows, highs = (np.array(column, dtype=float) for column in columns)
            rows = rows + (number - (len(sides) - 1) / 2) * height
            colour = f"C{number}"
            axis.hlines(rows, lows, highs, color=colour, linewidth=1.2, alpha=0.6)
            axis.plot(medians, rows, "o", color=colour, markersize=5, label=side)
        for row in range(0, len(groups), 2):
            axis.axhspan(row - 0.5, row + 0.5, color="black", alpha=0.04, linewidth=0)
        axis.set(yticks=range(len(groups)), yticklabels=list(groups), xlabel=x)
        axis.set(ylim=(len(groups) - 0.5, -0.5))
        axis.tick_params(axis="y", labelsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.grid(axis="x", alpha=0.3)
        drawn.legend(loc="outside upper center", ncols=3, fontsize=8)
    return path


def bar_chart(heights: Sequence[float], *, x: str, y: str) -> Image.Image:
    """A bar for each number, side by side."""
    drawn = io.BytesIO()
    with figure(drawn, (8, 3)) as (_, [[axis]]):
        axis.fill_between(range(len(heights)), heights, step="mid")
        axis.set(xlabel=x, ylabel=y, xlim=(-0.5, max(1, len(heights)) - 0.5), ylim=(0, None))
        axis.grid(alpha=0.3)
    return Image.open(drawn)


def heat_maps(values: Tensor, path: Path, *, row_names: Sequence[str] | None = None) -> Path:
    """values: (rows, columns, h, w) in [0, 1], nan where there is none -> maps with a colour bar.

    Where there is none, a map is grey. Maps of a single row are drawn taller than their cells.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm
    from matplotlib.font_manager import FontProperties

    rows, columns, h, w = values.shape
    norm = PowerNorm(0.4, 0, 1)  # most codes are one of many that would do
    scale = ScalarMappable(norm, "viridis")
    across = [k * (w + 1) + w / 2 - 0.5 for k in range(columns)]
    down = [k * (h + 1) + h / 2 - 0.5 for k in range(rows)]
    tall, aspect = (h / w, "equal") if h > 1 else (0.4, "auto")
    size = (max(4.0, 0.8 * columns + 1.5), max(1.5, 0.8 * rows * tall + 0.6))
    with figure(path, size) as (drawn, [[axis]]):
        axis.imshow(_side_by_side(values, scale), interpolation="nearest", aspect=aspect)
        axis.set_xticks(across, [str(k + 1) for k in range(columns)])
        named = [font_of(name) for name in row_names or map(str, range(rows))]
        axis.set_yticks(down, [text for _, text in named])
        for label, (font, _) in zip(axis.get_yticklabels(), named, strict=True):
            if font is not None:
                label.set_fontproperties(FontProperties(fname=font, size=label.get_fontsize()))
        axis.set_xlabel("round")
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        bar = drawn.colorbar(scale, ax=axis, label="the model's probability", shrink=0.9)
        bar.set_ticks([0, 0.01, 0.1, 0.3, 1], labels=["0", "0.01", "0.1", "0.3", "1"])
    return path


def _side_by_side(values: Tensor, scale: Any) -> np.ndarray:
    """Maps (rows, columns, h, w) -> colours (height, width, 3), with a white cell between maps."""
    rows, columns, h, w = values.shape
    framed = torch.full((rows, columns, h + 1, w + 1), torch.nan)
    framed[..., :h, :w] = values
    space = torch.zeros(rows, columns, h + 1, w + 1, dtype=torch.bool)
    space[..., h, :], space[..., :, w] = True, True

    def laid(maps: Tensor) -> Tensor:
        return maps.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:-1, :-1]

    colours: np.ndarray = scale.to_rgba(laid(framed).nan_to_num(0.0).numpy())[..., :3]
    colours[laid(framed).isnan().numpy()] = 0.75
    colours[laid(space).numpy()] = 1.0
    return colours


def lines(
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    path: Path,
    *,
    x: str,
    y: str,
    note: str | None = None,
) -> Path:
    """One line for each name, through its points (x, y, half of y's interval), in their order.

    Both axes are logarithmic, with ticks at 1, 2, 5 times tens; linear if a value is not above 0,
    such as the FID of a few images.
    """
    from matplotlib.ticker import LogLocator

    with figure(path, (8, 5)) as (_, [[axis]]):
        for name, points in series.items():
            across, up, half = zip(*points, strict=True)
            look = {"marker": "o", "markersize": 4, "elinewidth": 0.6, "capsize": 2}
            axis.errorbar(across, up, yerr=half, label=name, **look)
        axis.set(xlabel=x, ylabel=y, title=note)
        for number, side in enumerate((axis.xaxis, axis.yaxis)):
            if any(point[number] <= 0 for points in series.values() for point in points):
                continue
            (axis.set_yscale if number else axis.set_xscale)("log")
            side.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            side.set_major_formatter("{x:g}")
            side.set_minor_formatter("")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    return path
