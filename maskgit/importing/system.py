"""System: a project whose files are read; what one reads of a file, and what both sides share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from maskgit.importing.reading import Foreign

Tensors = Mapping[str, Tensor]


class Sizes:
    """What `--sizes`, or a config beside the file, says that neither its tensors nor the table of
    published files tell: names as in the project's own config."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name; ValueError if there is none, and no default."""
        found = self.given.get(name, default)
        if found is None:
            raise ValueError(
                f"its tensors do not say {name}, and it is none of the published sizes: give it in "
                f'a JSON file, {{"{name}": ...}}, by --sizes'
            )
        return found

    def whole(self, name: str, default: Any = None) -> int:
        """A value that is a whole number from 1 on; ValueError if it is none."""
        found = self.get(name, default)
        if type(found) is not int or found < 1:
            raise ValueError(f"{name} in --sizes is a whole number from 1 on, not {found!r:.40}")
        return found


class Imported(NamedTuple):
    """What is read of a file."""

    kind: str  # "tokenizer", or "maskgit" for a generator
    model: dict[str, Any]  # an entry of TOKENIZERS or BACKBONES with its options
    tensors: dict[str, Tensor]  # under the names of that net

    @property
    def is_generator(self) -> bool:
        """Whether it draws codes."""
        return self.kind == "maskgit"


class Published(NamedTuple):
    """A file that a project has published."""

    repo: str  # on the hub, or the address of its folder
    file: str
    gives: str
    fid: float | None = None  # of 50,000 images, as its authors say; rFID of a tokenizer


Drawn = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A sampler with its options, and guidance."""


class System(NamedTuple):
    """An entry of IMPORTERS."""

    title: str
    url: str
    licence: str
    files: Sequence[Published]
    # whether tensors, under their names in the file, are of this system
    knows: Callable[[Tensors], bool]
    read: Callable[[Foreign, Sizes], Imported]
    # what a generator's codes are of: the words after `maskgit import`, {} standing for its size
    tokenizer: str = ""
    size: Callable[[Mapping[str, Any]], Any] = lambda model: "SIZE"
    # an entry of IMPORTERS whose files may be of this system: the names are the same
    like: str = ""
    # of a generator's options: the published sampler with its options, and guidance, u + s (c - u)
    settings: Callable[[Mapping[str, Any]], Drawn] = lambda model: ({"name": "confidence"}, {})

    @property
    def says(self) -> str:
        """What its files give, in a line."""
        return "; ".join(f"{file.repo} {file.file}: {file.gives}" for file in self.files)


Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns and what stands for them, for each name one after the other."""


class Renamed(dict[str, Tensor]):
    """Tensors under our names, and the rules that gave them."""

    rules: Rules = ()


def theirs(tensors: Tensors, name: str) -> str:
    """What a name of ours is in the file, as far as rules can be turned round; else the name."""
    rules = getattr(tensors, "rules", ())
    found = {name}
    for pattern, new in reversed(rules):
        found |= {old for each in found if (old := _turned(pattern, new, each)) is not None}
    likely = [each for each in sorted(found) if name in _names([each], rules)]
    by_rules = [sum(_names([each], [rule]) != [each] for rule in rules) for each in likely]
    return likely[by_rules.index(max(by_rules))] if likely else name


def _turned(pattern: str, new: str | Callable[..., str], name: str) -> str | None:
    """A name before a rule, if the rule is a plain one and may have made it."""
    if not isinstance(new, str):
        return None
    text = re.sub(r"\\(\d)", r"(?P<g\1>\\w+?)", re.escape(new).replace("\\\\", "\\"))
    start, end = pattern.startswith("^"), pattern.endswith("$")
    match = re.search(f"{'^' * start}{text}{'$' * end}", name)
    if match is None:
        return None
    groups = iter(sorted(match.groupdict().items()))
    old = re.sub(r"\(\?[:!][^()]*\)\??", "", pattern.strip("^$"))
    old = re.sub(r"\([^()]*\)", lambda _: next(groups, ("", "?"))[1], old).replace("\\.", ".")
    return (
        None
        if re.search(r"[\\\[\]()|?*+]", old)
        else name[: match.start()] + old + name[match.end() :]
    )


def _names(names: Iterable[str], rules: Rules) -> list[str]:
    """Under our rules."""
    found = []
    for name in names:
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found.append(name)
    return found


def renamed(tensors: Tensors, rules: Rules) -> dict[str, Tensor]:
    """The same tensors under our names."""
    found = Renamed()
    found.rules = rules
    for name, tensor in zip(_names(tensors, rules), tensors.values(), strict=True):
        found[name] = tensor
    return found


def number_of(tensors: Tensors, prefix: str) -> int:
    """How many of `prefix`0, `prefix`1, ... there are: one more than the highest."""
    found = [re.match(rf"{re.escape(prefix)}(\d+)(\.|$)", name) for name in tensors]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def shape_of(tensors: Tensors, name: str, axes: int | None = None) -> tuple[int, ...]:
    """Of a tensor that must be there; ValueError if it is not, or has another number of axes."""
    if name not in tensors:
        raise ValueError(f"it lacks {theirs(tensors, name)}")
    found = tuple(tensors[name].shape)
    if axes is not None and len(found) != axes:
        raise ValueError(f"its {name} is {found}, not of {axes} axes")
    return found


def whole_root(number: int, what: str) -> int:
    """The side of a square of so many cells; ValueError if there is none."""
    side = round(max(number, 0) ** 0.5)
    if side * side != number or not side:
        raise ValueError(f"{what} are {number}, which is no square")
    return side
