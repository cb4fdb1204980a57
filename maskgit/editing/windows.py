"""Windows: a grid larger than the model's is filled in parts, each leaning on the known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maskgit.pipeline.pipeline import Pipeline
from maskgit.randomness import mixed_seed
from maskgit.samplers import rounds_of
from maskgit.samplers.predictor import Filled


def windows(
    hidden: Tensor, grid: tuple[int, int], codes_per_cell: int = 1
) -> Iterator[tuple[slice, slice]]:
    """Windows of `grid` codes that cover all hidden codes (h, w) of a larger grid, each after those
    it can lean on.

    They lie half a window apart, and hold whole cells; the next is always the one with the most
    known codes among those with hidden ones.
    """
    starts = [
        sorted({*range(0, side - window, max(1, window // part // 2) * part), side - window})
        for side, window, part in zip(hidden.shape, grid, (1, codes_per_cell), strict=True)
    ]
    left = hidden.clone()
    places = [(slice(y, y + grid[0]), slice(x, x + grid[1])) for y in starts[0] for x in starts[1]]
    while left.any():
        place = min((p for p in places if left[p].any()), key=lambda p: int(left[p].sum()))
        yield place
        left[place] = False


def window_size(pipeline: Pipeline, size: Sequence[int]) -> tuple[int, int]:
    """The cells (h, w) filled at once in a grid of this size; ValueError if it is too small.

    A model of any grid fills a smaller one as it is.
    """
    net, tokenizer = pipeline.net, pipeline.tokenizer
    if not net.any_grid and (size[0] < net.grid[0] or size[1] < net.grid[1]):
        given, least = tokenizer.size_of(size), tokenizer.size_of([*map(max, size, net.grid)])
        raise ValueError(
            f"images of {given[0]}x{given[1]}, margins included, are smaller than the model's: "
            "the nearest size that "
            f"can be edited is {least[0]}x{least[1]}"
        )
    return min(size[0], net.grid[0]), min(size[1], net.grid[1])


def fill_windows(
    pipeline: Pipeline,
    codes: Tensor,
    label: int,
    seed: int = 0,
    *,
    told: Callable[[Tensor], None] | None = None,
    **options: Any,
) -> Iterator[Filled]:
    """Fill the hidden cells of one grid (1, h, w), window by window, and yield it after each round.

    The first window is drawn with the seed itself, every other one with a seed mixed from it and
    the window's number. told: is given each grid, for whoever waits for an edit as a whole.
    """
    known = {key: options[key] for key in ("preset", "sampler", "steps") if key in options}
    sampler = pipeline.settings(**known).sampler
    codes, confidence = codes.clone(), torch.full(codes.shape, torch.nan)
    hidden = (codes[0] == pipeline.model.mask_id).cpu()
    places = windows(hidden, window_size(pipeline, hidden.shape), pipeline.tokenizer.codes_per_cell)
    for number, (rows, columns) in enumerate(places):
        place = (slice(None), rows, columns)
        drawn = (codes[place] == pipeline.model.mask_id).cpu()
        own = mixed_seed("window", seed, number) if number else seed
        steps = rounds_of(sampler, int(drawn.sum()))
        for found in pipeline.watch(
            [label], [own], codes=codes[place], **{**options, "steps": steps}
        ):
            codes[place] = found.codes
            confidence[place] = torch.where(drawn, found.confidence.cpu(), confidence[place])
            if told is not None:
                told(codes)
            yield Filled(codes.clone(), confidence.clone())
