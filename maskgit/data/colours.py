"""Whether pictures are in colour, and a question where they are to be made grey."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from PIL import Image

from maskgit.data.sources import Source

COLOUR = 8
"""Of 255: what channels differ by, in a picture that is not grey."""
FEW = 8
"""Images that are looked at before a training, to ask whether it is meant."""


def asked_of_colour(source: Source, channels: int) -> str:
    """A question, if images that are to be made grey are mostly in colour; else nothing."""
    if channels > 1:
        return ""
    count = len(source.labels)
    some = [i * count // min(FEW, count) for i in range(min(FEW, count))]
    found = 0
    for index in some:
        with suppress(OSError, ValueError):
            found += is_colour(unpacked(source.image(index)))
    if found <= len(some) / 2:
        return ""
    return (
        f"warning: {found} of {len(some)} images looked at are in colour, and data.channels=1 "
        "makes them grey: is data.channels=3 meant?"
    )


def unpacked(image: Image.Image) -> Image.Image:
    """RGBA in place of a palette that has transparency."""
    packed = image.mode == "P" and "transparency" in image.info
    return image.convert("RGBA") if packed else image


def is_colour(image: Image.Image) -> bool:
    """Whether some pixels are clearly not grey, as seen from afar."""
    if image.mode in ("1", "L", "LA") or image.mode[0] in "IF":
        return False
    small = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.int16)
    return bool((small.max(-1) - small.min(-1)).max() > COLOUR)
