"""What to time: the sizes, for how long, and the rows that come of it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from maskgit.benchmark.peers import WIDTHS, Shape

Row = dict[str, Any]


OURS = "maskgit"


@dataclass
class Plan:
    """The sizes to run; turns go on for `seconds` at a shape, and a part ends after `longest`."""

    cells: tuple[int, ...] = (64, 256, 1024)
    params: tuple[int, ...] = (5, 25)
    batch: tuple[int, ...] = (1, 8, 32)
    rounds: tuple[int, ...] = (8, 12, 18)
    seconds: float = 8.0
    longest: float = 240.0
    memory: bool = True
    peaks: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := next((c for c in self.cells if math.isqrt(c) ** 2 != c), None):
            raise ValueError(f"{wrong} cells are no square grid: 64, 256 or 1024, say")
        if wrong := next((p for p in self.params if p not in WIDTHS), None):
            raise ValueError(
                f"{wrong} million parameters: {' or '.join(map(str, WIDTHS))} can be measured"
            )

    def shapes(self, *, sampling: bool) -> list[Shape]:
        """Small ones first, so that their speed tells what the large ones would cost."""
        rounds = self.rounds if sampling else (0,)
        shapes = [
            Shape(c, p, b, r)
            for c in self.cells
            for p in self.params
            for b in self.batch
            for r in rounds
        ]
        return sorted(shapes, key=size_of)


def size_of(shape: Shape) -> float:
    """About how much work a shape is."""
    return shape.cells * shape.params * shape.batch * max(1, shape.rounds)


def talk(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def row_of(part: str, shape: Shape, side: str, **rest: Any) -> Row:
    """A line of the table."""
    sampling = {"rounds": shape.rounds} if shape.rounds else {}
    sizes = {
        "cells": shape.cells,
        "million parameters": shape.params,
        "batch": shape.batch,
        **sampling,
    }
    return {"part": part, **sizes, "side": side, **rest}
