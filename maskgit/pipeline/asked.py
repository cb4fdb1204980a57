"""Numbers that a call of a Pipeline asks for, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

import torch
from torch import Tensor

MOST_BATCH = 2**16
MOST_SIDE = 2**13
"""Pixels."""
MOST_CELLS = 2**16
"""Codes of an image: more is a slip, and takes memory without end."""

SEEDS = "seeds lie in 0 .. 2^63 - 1"


def labels_of(labels: Any, num_classes: int, null: Callable[[Tensor], Tensor]) -> Tensor:
    """Class labels, num_classes for none, as a net is given them: (batch,) int64.

    null: the net's own; ValueError for others, and for none if the net knows no such thing.
    """
    allowed = f"labels lie in 0 .. {num_classes - 1}, or {num_classes} for no label"
    allowed += " (pipeline.label(name) is a class's)"
    found = torch.tensor(whole_numbers(labels, 0, num_classes, allowed), dtype=torch.int64)
    if num_classes in found:
        null(found)
    return found


def whole_numbers(values: Any, least: int, most: int, allowed: str) -> list[int]:
    """The values as ints in least .. most; ValueError says what is `allowed`, and what is not."""
    found = []
    for value in values if isinstance(values, Iterable) else [values]:
        try:
            number = index(value)
        except TypeError:
            number = least - 1
        if not least <= number <= most:
            raise ValueError(f"{allowed}: whole numbers, not {value!r:.40}")
        found.append(number)
    return found


def at_least_one(**numbers: Any) -> None:
    """ValueError for the first of these, by its name, that is no whole number above 0, nor none."""
    for name, value in numbers.items():
        if value is not None:
            whole_numbers([value], 1, 2**63 - 1, f"{name} is 1 or more")


def check_seed(seed: Any) -> None:
    """ValueError for what is no seed, nor none."""
    if seed is not None:
        whole_numbers([seed], 0, 2**63 - 1, SEEDS)


def seeds_for(count: int, seeds: Iterable[int] | None) -> list[int]:
    """One seed for each of `count` images, 0, 1, ... by default; ValueError for others."""
    found = whole_numbers(range(count) if seeds is None else seeds, 0, 2**63 - 1, SEEDS)
    if len(found) != count:
        raise ValueError(f"{count} labels need as many seeds, not {len(found)}")
    return found


def check_codes(codes: Tensor, mask_id: int) -> None:
    """ValueError unless they are grids (batch, h, w) of codes, hidden ones `mask_id`."""
    if codes.ndim != 3 or codes.is_floating_point():
        raise ValueError(
            f"codes are whole numbers (batch, h, w), not {codes.dtype} {tuple(codes.shape)}"
        )
    if not codes.numel():
        raise ValueError(f"there are no codes in {tuple(codes.shape)}")
    if not 0 <= int(codes.min()) <= int(codes.max()) <= mask_id:
        raise ValueError(f"codes lie in 0 .. {mask_id - 1}, or {mask_id} for those that are hidden")


def no_tokenizer(run: Mapping[str, Any]) -> ValueError:
    """What to say where images are asked of a generator alone; run: its own, of an imported one."""
    words = run.get("imported", {}).get("tokenizer") or "SYSTEM FILE"
    return ValueError(
        "this pipeline is a generator alone, and images need its tokenizer: "
        f"`maskgit import {words} --out T`, then import the generator again with --tokenizer T"
    )
