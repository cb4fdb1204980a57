"""Near duplicates: images that look alike to the eye, found by a perceptual hash and a thumbnail.

The hash says which pairs to compare: 64 bits, whether each of 8 x 8 cells is lighter than its right
neighbour (a difference hash). The thumbnail decides, since flat images all have the same hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

MOST_BITS = 4
"""Of 64 that may differ in near duplicates."""
MOST_DIFFERENCE = 6.0
"""Of 255, the mean over a thumbnail's values."""
SIDE = 12
"""Of a thumbnail, in pixels."""
ROWS = 500
"""Images that are compared with all others at once."""


class Likeness(NamedTuple):
    """What of an image is compared."""

    hash: int
    thumbnail: np.ndarray  # (SIDE * SIDE * 3,) uint8


def likeness(image: Image.Image) -> Likeness:
    """Of an image, laid on grey where it is transparent."""
    image = on_grey(image)
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return Likeness(int.from_bytes(bits.tobytes()), np.asarray(small).reshape(-1))


def on_grey(image: Image.Image) -> Image.Image:
    """RGB; of a transparent picture what there is to see, by itself, on any colour but the hidden
    one."""
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = image.crop(image.getchannel("A").getbbox() or (0, 0, 1, 1))
        image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
    return image.convert("RGB")


def alike(images: Sequence[Likeness]) -> list[list[int]]:
    """The groups of near duplicates, as places in `images`; what is like none is in no group.

    All of a group are like its first: a long chain of small changes is several groups.
    """
    taken: set[int] = set()
    groups = []
    for first, others in _neighbours(images):
        if first not in taken and (group := [o for o in others.tolist() if o not in taken]):
            groups.append([first, *group])
            taken.update(groups[-1])
    return groups


def _neighbours(images: Sequence[Likeness]) -> Iterator[tuple[int, np.ndarray]]:
    """Each image that later ones are like, in order, with them: (n,) places. Those of ROWS images
    are held at once."""
    if len(images) < 2:
        return
    hashes = np.array([image.hash for image in images], dtype=np.uint64)
    thumbnails = np.stack([image.thumbnail for image in images]).astype(np.int16)
    for start in range(0, len(images), ROWS):
        block = hashes[start : start + ROWS, None] ^ hashes[None, start:]
        ones, others = np.nonzero(np.bitwise_count(block) <= MOST_BITS)
        later = others > ones
        ones, others = ones[later] + start, others[later] + start
        near = np.zeros(len(ones), dtype=bool)
        for part in range(0, len(ones), 20_000):  # thumbnails of as many pairs at once
            some = slice(part, part + 20_000)
            apart = np.abs(thumbnails[ones[some]] - thumbnails[others[some]]).mean(1)
            near[some] = apart <= MOST_DIFFERENCE
        firsts, begins = np.unique(ones[near], return_index=True)
        yield from zip(firsts.tolist(), np.split(others[near], begins[1:]), strict=len(firsts) > 0)
