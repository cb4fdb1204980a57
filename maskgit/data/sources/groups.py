"""Which images validate where no folder says it: by the hash of their names, or of their groups."""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
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

    labels: (n,) int64. Half of a class at most validates, and of every class of two groups or more
    some do, unless groups are of several classes. ValueError if nothing can validate.
    """
    sizes: dict[str, Counter[int]] = {}  # of each group, how many images of which classes
    for group, label in zip(groups, labels.tolist(), strict=True):
        sizes.setdefault(group, Counter())[label] += 1
    if len(sizes) == 1 and len(groups) > 1:
        raise ValueError(
            f"all {len(groups)} images are of one group ({groups[0]!r}): none is left to validate"
        )
    whole = Counter(labels.tolist())
    ordered = sorted(sizes, key=lambda group: (_hash(group), group))
    known = validating(ordered, share)
    chosen = {group for group, is_chosen in zip(ordered, known, strict=True) if is_chosen}

    def too_many(label: int) -> bool:
        return 2 * sum(sizes[group][label] for group in chosen) > whole[label]

    for label in sorted(whole):
        while too_many(label):
            chosen.remove(max(chosen, key=lambda group: (sizes[group][label], _hash(group), group)))
    for label in sorted(whole):
        for group in ordered:
            if any(sizes[other][label] for other in chosen):
                break
            if sizes[group][label]:
                chosen.add(group)
                if any(map(too_many, sizes[group])):
                    chosen.remove(group)
    if len(groups) > 1 and not chosen:
        raise ValueError(
            "no group is left to validate: each class is one group, or most of one; take a group "
            "that tells more of them apart"
        )
    return [group in chosen for group in groups]
