"""Conditions: a value for each image, that only a net's own embedder understands.

A condition is a tensor whose first axis is the batch, or a mapping (also nested) of such: class
labels (batch,), or `{"class": (batch,), "brightness": (batch,)}`. Here is all that samplers,
guidance and the wrapper do with one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Condition = Any  # Tensor | Mapping[str, Condition]


def each(work: Callable[..., Tensor], *conditions: Condition) -> Condition:
    """The same work on every tensor of conditions that are built alike."""
    first = conditions[0]
    if isinstance(first, Mapping):
        return {key: each(work, *(condition[key] for condition in conditions)) for key in first}
    return work(*conditions)


def leaves(condition: Condition) -> list[Tensor]:
    """Its tensors."""
    if isinstance(condition, Mapping):
        return [tensor for part in condition.values() for tensor in leaves(part)]
    return [condition]


def batch_of(condition: Condition) -> int:
    """How many images it is of."""
    return len(leaves(condition)[0])


def joined(conditions: Sequence[Condition]) -> Condition:
    """One after the other."""
    return each(lambda *parts: torch.cat(parts), *conditions)


def some(condition: Condition, images: Any) -> Condition:
    """That of some images: numbers, a slice, or bool (batch,)."""
    return each(lambda part: part[images], condition)


def where(chosen: Tensor, condition: Condition, other: Condition) -> Condition:
    """`condition` for the chosen images, bool (batch,), `other` for the rest."""
    return each(
        lambda a, b: torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b), condition, other
    )


def numbers(condition: Condition) -> Tensor:
    """(batch, n) int64 that differ where conditions do: floating-point numbers bit by bit."""
    parts = [part.flatten(1) if part.ndim > 1 else part[:, None] for part in leaves(condition)]
    whole = [
        part.double().view(torch.int64) if part.is_floating_point() else part.long()
        for part in parts
    ]
    return torch.cat(whole, 1)


def on_host(condition: Condition) -> bool:
    """Whether its numbers can be read without asking an accelerator."""
    return all(part.device.type == "cpu" for part in leaves(condition))


class Distinct(NamedTuple):
    """The images of a batch that differ from all before them."""

    first: Tensor  # (distinct,) the place of each in the batch
    of_row: Tensor  # (batch,) which of them each image is equal to


def distinct(grids: Tensor | None, condition: Condition | None) -> Distinct:
    """Of grids (batch, h, w) with their conditions, or of either alone."""
    parts = [] if grids is None else [grids.flatten(1)]
    rows = torch.cat([*parts, *([] if condition is None else [numbers(condition)])], 1)
    _, of_row = torch.unique(rows, dim=0, return_inverse=True)
    first = of_row.new_full((int(of_row.max()) + 1,), len(rows))
    return Distinct(
        first.scatter_reduce_(0, of_row, torch.arange(len(rows), device=rows.device), "amin"),
        of_row,
    )
