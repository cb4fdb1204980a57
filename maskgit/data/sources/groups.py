"""Which images validate where no folder says it: by the hash of their names, or of their groups."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

BUCKETS = 10_000


def _hash(name: str) -> int:
    return zlib.crc32(os.fsencode(name)) % BUCKETS


def validating(names: Iterable[str], share: float) -> list[bool]:
    """Which files validate, by the hashes of their names: a share of them, at least one of two."""
    hashes = [_hash(name) for name in names]
    chosen = [value < share * BUCKETS for value in hashes]
    if len(chosen) > 1 and not any(chosen):
        chosen[hashes.index(min(hashes))] = True
    if len(chosen) > 1 and all(chosen):
        chosen[hashes.index(max(hashes))] = False
    return chosen


def groups_of(names: Iterable[str], pattern: str) -> list[str]:
    """The text that a regular expression finds in each name, or its first part in brackets.

    A name without it is a group of its own. ValueError if it is no expression, or never found.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"group {pattern!r} is no regular expression: {error}") from error
    first, found, example = min(1, expression.groups), [], ""
    matches = 0
    for name in names:
        match, example = expression.search(name), example or name
        matches += match is not None
        found.append(name if match is None else match[first] or "")
    if not matches:
        raise ValueError(f"group {pattern!r} is found in none of the names, such as {example!r}")
    return found


def validating_apart(groups: Sequence[str], labels: np.ndarray, share: float) -> list[bool]:
    """Which images validate, by the hashes of their groups, no group in both splits.

    labels: (n,) int64. Every class trains, and every class of two groups or more validates, unless
    it shares all of them with a class that has no other to train on. ValueError if all is one.
    """
    classes_of: dict[str, set[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        classes_of.setdefault(group, set()).add(label)
    if len(classes_of) == 1 and len(groups) > 1:
        raise ValueError(
            f"all {len(groups)} images are of one group ({groups[0]!r}): none is left to validate"
        )
    ordered = sorted(classes_of, key=lambda group: (_hash(group), group))
    of_class: dict[int, list[str]] = {}
    for group in ordered:
        for label in classes_of[group]:
            of_class.setdefault(label, []).append(group)
    known = validating(ordered, share)
    chosen = {group for group, is_chosen in zip(ordered, known, strict=True) if is_chosen}
    for mine in of_class.values():
        if chosen.issuperset(mine):
            chosen.remove(mine[-1])
    for mine in of_class.values():
        if chosen.isdisjoint(mine):
            chosen.update(_one_to_spare(mine, classes_of, of_class, chosen))
    return [group in chosen for group in groups]


def _one_to_spare(
    mine: Sequence[str],
    classes_of: dict[str, set[int]],
    of_class: dict[int, list[str]],
    chosen: set[str],
) -> list[str]:
    """The first group without which each of its classes still trains; none if there is none."""

    def trains_without(group: str, label: int) -> bool:
        return any(other != group and other not in chosen for other in of_class[label])

    spare = (g for g in mine if all(trains_without(g, label) for label in classes_of[g]))
    return [group for group in [next(spare, None)] if group is not None]
