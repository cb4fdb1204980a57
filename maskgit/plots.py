"""Pictures: grids of images, and curves (the only file that imports matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from maskgit.images import to_pil
from vqgan.files import replacing

SMALLEST = 56
"""Images are enlarged by a whole factor until a side is at least this many pixels."""


def image_grid(images: Tensor, *, num_columns: int, row_names: Sequence[str] | None = None) -> Image.Image:
    """images: (n, channels, height, width) in [-1, 1] -> one picture, row by row, small ones enlarged."""
    from torchvision.utils import make_grid

    zoom = max(1, -(-SMALLEST // images.shape[-1]))
    large = images.detach().float().cpu().repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
    gap = 4
    picture = to_pil(make_grid(large, nrow=num_columns, padding=gap, pad_value=1.0)).convert("RGB")
    if not row_names:
        return picture
    font = ImageFont.load_default(size=16)
    margin = gap + int(max(font.getlength(name) for name in row_names)) + gap
    named = Image.new("RGB", (picture.width + margin, picture.height), "white")
    named.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(named)
    for row, name in enumerate(row_names):
        middle = gap + row * (large.shape[-2] + gap) + large.shape[-2] // 2
        draw.text((margin - gap, middle), name, fill="black", font=font, anchor="rm")
    return named


def curves(rows: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> Path:
    """A panel for each metric of each run: rows maps a title to the rows of its metrics.jsonl."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wanted = ("loss", "validation_loss", "bits_per_code", "psnr", "accuracy", "codes_used")
    panels: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for title, run in rows.items():
        for key in wanted:
            points = [(row["step"], row[key]) for row in run if key in row]
            if points:
                panel = f"{title}: {'loss' if key == 'validation_loss' else key}"
                panels.setdefault(panel, {})[key] = tuple(zip(*points, strict=True))  # type: ignore[assignment]
    columns = min(3, max(1, len(panels)))
    height = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(4.2 * columns, 3 * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        for key, (steps, values) in lines.items():
            axis.plot(steps, values, label=key.replace("_", " "), marker="." if len(steps) < 30 else None)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend()
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
    plt.close(figure)
    return path


def dots(groups: Mapping[str, Mapping[str, Sequence[float]]], path: Path, *, x: str) -> Path:
    """A row for each place, and in it a dot and a line for each side: its median, and its least to its greatest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sides = list(dict.fromkeys(side for group in groups.values() for side in group))
    height = 0.6 / len(sides)
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.3 * len(groups)), layout="constrained")
    for number, side in enumerate(sides):
        places = [(row, *group[side]) for row, group in enumerate(groups.values()) if side in group]
        rows, medians, lows, highs = (np.array(column, dtype=float) for column in zip(*places, strict=True))
        rows = rows + (number - (len(sides) - 1) / 2) * height
        colour = f"C{number}"
        axis.hlines(rows, lows, highs, color=colour, linewidth=1.2, alpha=0.6)
        axis.plot(medians, rows, "o", color=colour, markersize=5, label=side)
    for row in range(0, len(groups), 2):
        axis.axhspan(row - 0.5, row + 0.5, color="black", alpha=0.04, linewidth=0)
    axis.set(yticks=range(len(groups)), yticklabels=list(groups), ylim=(len(groups) - 0.5, -0.5), xlabel=x)
    axis.tick_params(axis="y", labelsize=8)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
    plt.close(figure)
    return path


def bar_chart(heights: Sequence[float], path: Path, *, x: str, y: str) -> Path:
    """A bar for each number, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
    axis.fill_between(range(len(heights)), heights, step="mid")
    axis.set(xlabel=x, ylabel=y, xlim=(-0.5, max(1, len(heights)) - 0.5), ylim=(0, None))
    axis.grid(alpha=0.3)
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
    plt.close(figure)
    return path


def heat_maps(values: Tensor, path: Path, *, row_names: Sequence[str] | None = None) -> Path:
    """values: (rows, columns, h, w) in [0, 1], nan where there is none (grey) -> one picture with a colour bar."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, columns, h, w = values.shape
    framed = torch.full((rows, columns, h + 1, w + 1), torch.nan)  # a cell of space between the maps
    framed[..., :h, :w] = values
    space = torch.zeros(rows, columns, h + 1, w + 1, dtype=torch.bool)
    space[..., h, :], space[..., :, w] = True, True

    def laid(maps: Tensor) -> Tensor:
        return maps.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:-1, :-1]

    norm = matplotlib.colors.PowerNorm(0.4, 0, 1)  # most codes are one of many that would do
    colours = matplotlib.colormaps["viridis"](norm(laid(framed).nan_to_num(0.0).numpy()))[..., :3]
    colours[laid(framed).isnan().numpy()] = 0.75
    colours[laid(space).numpy()] = 1.0
    size = (max(4.0, 0.8 * columns + 1.5), max(1.5, 0.8 * rows * h / w + 0.6))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.imshow(colours, interpolation="nearest")
    axis.set_xticks([k * (w + 1) + w / 2 - 0.5 for k in range(columns)], [str(k + 1) for k in range(columns)])
    axis.set_yticks([k * (h + 1) + h / 2 - 0.5 for k in range(rows)], row_names or [str(k) for k in range(rows)])
    axis.set_xlabel("round")
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    scale = plt.cm.ScalarMappable(norm, "viridis")
    bar = figure.colorbar(scale, ax=axis, label="the model's probability", shrink=0.9)
    bar.set_ticks([0, 0.01, 0.1, 0.3, 1], labels=["0", "0.01", "0.1", "0.3", "1"])
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
    plt.close(figure)
    return path


def lines(
    series: Mapping[str, Sequence[tuple[float, float, float]]], path: Path, *, x: str, y: str, note: str | None = None
) -> Path:
    """One line for each name, through its points (x, y, half of y's interval), in their order.

    Both axes are logarithmic, with ticks at 1, 2, 5 times tens.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, points in series.items():
        across, up, half = zip(*points, strict=True)
        axis.errorbar(across, up, yerr=half, marker="o", markersize=4, elinewidth=0.6, capsize=2, label=name)
    axis.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=note)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(matplotlib.ticker.LogLocator(base=10, subs=(1, 2, 5)))
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter("")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
    plt.close(figure)
    return path


@torch.no_grad()
def pairs(originals: Tensor, reconstructions: Tensor, num_columns: int = 10) -> Image.Image:
    """Originals (n, c, h, w) in [-1, 1] with their reconstructions underneath, in double rows."""
    rows = []
    for start in range(0, len(originals), num_columns):
        part = slice(start, start + num_columns)
        rows += [originals[part], reconstructions[part]]
    names = ["original", "decoded"] * (len(rows) // 2)
    return image_grid(torch.cat(rows), num_columns=num_columns, row_names=names)
