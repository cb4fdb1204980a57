"""What is in a data set: counts by class and split, sizes, formats, transparency, what cannot be
read, near duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from maskgit.data.colours import is_colour, unpacked
from maskgit.data.likeness import Likeness, alike, likeness
from maskgit.data.order import spread
from maskgit.data.sources import SPLITS, Source, load_source
from maskgit.data.sources.source import Skipped

MOST = 20_000
"""Images that are opened; of more, so many, spread evenly over each split."""
FEW_COLOURS = 64
"""Of an image of pixel art, at most, in the median."""


class Seen(NamedTuple):
    """An image that was opened."""

    split: str
    number: int  # in its split
    name: str
    label: int
    size: tuple[int, int]  # width, height
    format: str  # of its name's end
    has_alpha: bool  # some pixel is not opaque
    is_colour: bool
    num_colours: int
    likeness: Likeness


@dataclass
class Inspection:
    """All that was found."""

    title: str
    class_names: tuple[str, ...]
    counts: dict[str, np.ndarray]  # split -> images of each class
    skipped: Skipped
    seen: list[Seen] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)  # name and reason
    groups: list[list[int]] = field(default_factory=list)  # places in `seen`, near duplicates

    @property
    def num_images(self) -> int:
        """Of all splits."""
        return int(sum(count.sum() for count in self.counts.values()))

    @property
    def by_class(self) -> np.ndarray:
        """(classes,) images of all splits."""
        return np.sum(list(self.counts.values()), axis=0)  # type: ignore[no-any-return]

    @property
    def opened(self) -> int:
        """Images that were looked at."""
        return len(self.seen) + len(self.unread)

    def share(self, of: str) -> float:
        """Of the images seen, that have a property, such as `has_alpha`."""
        return sum(getattr(one, of) for one in self.seen) / max(1, len(self.seen))

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """(width, height) -> images seen."""
        return Counter(one.size for one in self.seen)

    @property
    def formats(self) -> Counter[str]:
        """Ends of names -> images seen."""
        return Counter(one.format for one in self.seen)

    @property
    def long_side(self) -> int:
        """The median."""
        return int(np.median([max(one.size) for one in self.seen])) if self.seen else 0

    @property
    def is_pixel_art(self) -> bool:
        """Few colours in small pictures: to be resized without mixing neighbours."""
        if not self.seen or self.long_side > 256:
            return False
        return float(np.median([one.num_colours for one in self.seen])) <= FEW_COLOURS

    @property
    def imbalance(self) -> float:
        """How many times the largest class has the images of the smallest that has any."""
        some = self.by_class[self.by_class > 0]
        return float(some.max() / some.min()) if len(some) else 1.0

    @property
    def leaked(self) -> list[list[int]]:
        """The groups of near duplicates that lie in both splits."""
        return [g for g in self.groups if len({self.seen[i].split for i in g}) > 1]

    @property
    def mixed(self) -> list[list[int]]:
        """The groups of near duplicates of several classes."""
        return [g for g in self.groups if len({self.seen[i].label for i in g}) > 1]


def inspect(spec: Any, title: str = "", most: int = MOST) -> Inspection:
    """Look at a data source, as a config names it; stderr shows how far it is."""
    sources = {split: load_source(spec, split) for split in SPLITS}
    names = sources["train"].class_names
    found = Inspection(
        title or str(spec),
        names,
        {split: counted(source, len(names)) for split, source in sources.items()},
        Skipped().join(source.skipped for source in sources.values()),
    )
    chosen = list(_chosen(sources, found.num_images, most))
    for split, index in tqdm(chosen, unit="image", desc="inspect", mininterval=1.0):
        _look(sources[split], split, index, found)
    found.groups = alike([one.likeness for one in found.seen])
    return found


def counted(source: Source, num_classes: int) -> np.ndarray:
    """(num_classes,) images of each class; all in the first one where labels are something else."""
    if source.labels.ndim > 1:
        return np.array([len(source.labels)])
    return np.bincount(source.labels, minlength=num_classes)


def _chosen(sources: Mapping[str, Source], total: int, most: int) -> Iterator[tuple[str, int]]:
    for split, source in sources.items():
        count = len(source.labels)
        yield from ((split, i) for i in spread(count, max(1, count * most // max(most, total))))


def _look(source: Source, split: str, index: int, found: Inspection) -> None:
    name = source.name(index)
    try:
        image = unpacked(source.image(index))
        seen = Seen(
            split,
            index,
            name,
            int(source.labels[index]) if source.labels.ndim == 1 else 0,
            image.size,
            Path(name).suffix.lower() or "rows",
            has_alpha(image),
            is_colour(image),
            num_colours(image),
            likeness(image),
        )
    except (OSError, ValueError) as error:
        found.unread.append((name, f"{type(error).__name__}: {error}"))
        return
    found.seen.append(seen)


def num_colours(image: Image.Image) -> int:
    """Of a picture, or one more than FEW_COLOURS where it has more."""
    found = image.convert("RGB").getcolors(FEW_COLOURS)
    return FEW_COLOURS + 1 if found is None else len(found)


def has_alpha(image: Image.Image) -> bool:
    """Whether some pixel is not opaque."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)
