"""Conditions: a value for each image, that only a net's own embedder understands.

A condition is a tensor whose first axis is the batch, or a mapping (also nested) of such: class
labels (batch,), or `{"class": (batch,), "brightness": (batch,)}`. Here is all that samplers,
guidance and the wrapper do with one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
