"""Words of a person for classes -> labels: names, numbers, and ranges of either."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from vqgan.registry import suggest


def label_of(word: str, class_names: Sequence[str]) -> int:
    """The label of a class's name or number; `#3` is a number, `=3` a name.

    ValueError names the nearest class, or both that a number might mean.
    """
    by_name = _by_name(class_names)
    name = unicodedata.normalize("NFC", word)
    number = int(name) if name.isdecimal() and int(name) < len(class_names) else None
    if name in by_name and number not in (None, by_name[name]):
        raise ValueError(
            f"{word} is the name of one class and the number of another "
            f"({class_names[number or 0]}): write ={word} for the name, #{word} for the number"
        )
    if name in by_name:
        return by_name[name]
    if number is not None:
        return number
    if name.startswith("=") and name[1:] in by_name:
        return by_name[name[1:]]
    if name.startswith("#") and name[1:].isdecimal() and int(name[1:]) < len(class_names):
        return int(name[1:])
    raise ValueError(f"no class {word!r}{suggest(word, class_names)}")


def numbers_of(labels: Any, class_names: Sequence[str]) -> Any:
    """Labels with the names among them read as `label_of` reads them; a text alone is one name."""
    if isinstance(labels, str):
        return [label_of(labels, class_names)]
    if not isinstance(labels, Iterable):
        return labels
    return [label_of(each, class_names) if isinstance(each, str) else each for each in labels]


def parse_labels(text: str, class_names: Sequence[str]) -> list[int]:
    """`0-9`, `3,3,7`, `bag,ankle boot` or a mixture -> labels.

    A name may hold commas. A range over names that are numbers means these names.
    """
    labels: list[int] = []
    for word in _words(text, _by_name(class_names)):
        labels += _range(word, class_names) or [label_of(word, class_names)]
    if not labels:
        raise ValueError("no labels given: write e.g. 0-9, or 3,7, or class names")
    return labels


def _by_name(class_names: Sequence[str]) -> dict[str, int]:
    return {unicodedata.normalize("NFC", name): label for label, name in enumerate(class_names)}


def _words(text: str, names: dict[str, int]) -> list[str]:
    """The parts between commas; of several that are a name together, the most."""
    parts, words = unicodedata.normalize("NFC", text).split(","), []
    while parts:
        joined = [",".join(parts[:count]).strip() for count in range(len(parts), 1, -1)]
        count = next((len(parts) - i for i, name in enumerate(joined) if name in names), 1)
        words.append(",".join(parts[:count]).strip())
        parts = parts[count:]
    return [word for word in words if word]


def _range(word: str, class_names: Sequence[str]) -> list[int]:
    """The labels of `3-7`, none if it is no range, or a class is called so."""
    names = _by_name(class_names)
    first, dash, last = word.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()) or word in names:
        return []
    if int(first) > int(last):
        raise ValueError(f"{word} goes down: write {last}-{first}")
    if first in names and last in names:
        numbered = {int(name): label for name, label in names.items() if name.isdecimal()}
        return [numbered[n] for n in sorted(numbered) if int(first) <= n <= int(last)]
    return list(range(label_of(first, class_names), label_of(last, class_names) + 1))
