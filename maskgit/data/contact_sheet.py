"""A contact sheet: some images of each class, whole, in a row with its name."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from maskgit.data.colours import unpacked
from maskgit.data.inspection import Inspection
from maskgit.data.order import spread
from maskgit.data.sources import load_source

CELL, GAP = 72, 6
"""Pixels."""
COLUMNS, ROWS = 12, 24
"""Images of a class, and classes, at most."""
SQUARES = (205, 230)
"""The greys of the board that shows through where an image is transparent."""


def contact_sheet(spec: object, found: Inspection) -> Image.Image:
    """The largest classes in the order of their names, up to COLUMNS images of each, spread."""
    largest = sorted(range(len(found.class_names)), key=lambda c: -found.by_class[c])[:ROWS]
    rows = {label: [i for i in found.seen if i.label == label] for label in sorted(largest)}
    rows = {label: seen for label, seen in rows.items() if seen}
    sources = {split: load_source(spec, split) for split in found.counts}  # type: ignore[arg-type]
    named = {
        f"{found.class_names[label]} ({found.by_class[label]})": [
            cell(sources[seen[i].split].image(seen[i].number)) for i in spread(len(seen), COLUMNS)
        ]
        for label, seen in rows.items()
    }
    left = len(found.class_names) - len(rows)
    return sheet(named, f"and {left} more classes, with fewer images" if left else "")


def sheet(rows: dict[str, list[Image.Image]], note: str = "") -> Image.Image:
    """name of a row -> its cells."""
    font = ImageFont.load_default(size=14)
    margin = 2 * GAP + int(max([font.getlength(name) for name in rows], default=0))
    width = margin + max(map(len, rows.values()), default=0) * (CELL + GAP) + GAP
    height = GAP + len(rows) * (CELL + GAP) + (20 if note else 0)
    picture = Image.new("RGB", (max(width, 200), max(height, CELL)), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, cells) in enumerate(rows.items()):
        top = GAP + row * (CELL + GAP)
        draw.text((margin - GAP, top + CELL // 2), name, fill="black", font=font, anchor="rm")
        for column, one in enumerate(cells):
            picture.paste(one, (margin + column * (CELL + GAP), top))
    if note:
        draw.text((margin, height - 18), note, fill="black", font=font)
    return picture


def cell(image: Image.Image) -> Image.Image:
    """A whole image in a square; small ones are enlarged by a whole factor, to sharp pixels."""
    image = unpacked(image).convert("RGBA")
    zoom = CELL // max(image.size)
    if zoom >= 1:
        image = image.resize(_times(image.size, zoom), Image.Resampling.NEAREST)
    else:
        image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    square = board()
    square.alpha_composite(image, ((CELL - image.width) // 2, (CELL - image.height) // 2))
    return square.convert("RGB")


def _times(size: Sequence[int], factor: int) -> tuple[int, int]:
    return size[0] * factor, size[1] * factor


def board() -> Image.Image:
    """A board of grey squares, as transparent pictures are shown on."""
    small = Image.new("L", (CELL // 8, CELL // 8))
    small.putdata([SQUARES[(x + y) % 2] for y in range(CELL // 8) for x in range(CELL // 8)])
    return small.resize((CELL, CELL), Image.Resampling.NEAREST).convert("RGBA")
