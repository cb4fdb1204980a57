"""What a browser asks for -> requests that may be drawn: every value is looked at here."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskgit.data.pixels import Transform, open_image, to_mask, to_pixels
from maskgit.editing import box_mask, check_image, check_places
from maskgit.pipeline import Pipeline
from vqgan.registry import suggest

ADDRESS = re.compile(r"^data:image/[a-z+.-]{1,20};base64,")
LARGEST_MARGIN = 2**16
LARGEST_SEED = 2**53 - 1
"""What a number of a browser holds."""


@dataclass(frozen=True)
class Limits:
    """The most that one request may ask for."""

    images: int = 64
    thumbnails: int = 12
    rounds: int = 64
    file_bytes: int = 6 * 2**20
    file_pixels: int = 16_000_000
    larger: int = 4
    """How many times as many cells as the model's own grid a picture may have."""

    @property
    def body_bytes(self) -> int:
        """Of a request: two pictures in base 64, and the words around them."""
        return 3 * self.file_bytes


@dataclass(frozen=True)
class Drawing:
    """With what to draw: the options of Pipeline.stream that were given."""

    options: tuple[tuple[str, Any], ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """The options by name."""
        return dict(self.options)


@dataclass(frozen=True)
class DrawAsked:
    """`per_label` images of each label, seeds from `seed` on along the rows."""

    labels: tuple[int, ...]
    per_label: int
    seed: int
    drawing: Drawing

    @property
    def items(self) -> list[tuple[int, int]]:
        """(label, seed) of every image."""
        many = [label for label in self.labels for _ in range(self.per_label)]
        return [(label, self.seed + number) for number, label in enumerate(many)]


@dataclass(frozen=True)
class EditAsked:
    """One edit of a picture, as uint8 bytes so that equal requests are equal."""

    what: str
    shape: tuple[int, int, int]
    pixels: bytes
    label: int
    seed: int
    drawing: Drawing
    mask: bytes | None = None
    box: tuple[int, ...] | None = None
    margins: tuple[int, ...] | None = None
    keep: float | None = None

    @property
    def image(self) -> Tensor:
        """uint8 (channels, height, width)."""
        return torch.frombuffer(bytearray(self.pixels), dtype=torch.uint8).view(self.shape)

    @property
    def own(self) -> dict[str, Any]:
        """The options of the edit itself."""
        found: dict[str, Any] = {"box": self.box, "margins": self.margins, "keep": self.keep}
        if self.mask is not None:
            flat = torch.frombuffer(bytearray(self.mask), dtype=torch.uint8)
            found["mask"] = flat.view(self.shape[1:]).bool()
        return {key: value for key, value in found.items() if value is not None}


EDIT_KEYS = {"inpaint": {"mask", "box"}, "outpaint": {"margins"}, "variation": {"keep"}}
"""The edits of the page, and what each needs one of."""
SETTINGS = {"preset", "sampler", "steps", "guidance", "temperature"}
OF_DRAW = {"labels", "per_label", "seed", *SETTINGS}
OF_EDIT = {"what", "image", "label", "seed", "mask", "box", "margins", "keep", *SETTINGS}


def draw_asked(text: str, pipeline: Pipeline, limits: Limits) -> DrawAsked:
    """A request in JSON -> images to draw; ValueError in a line for everything that is not one."""
    found = _object(text, OF_DRAW)
    labels = tuple(_labels(found.get("labels"), pipeline))
    most = limits.images // len(labels)
    if not most:
        raise ValueError(f"{len(labels)} classes are more than the {limits.images} images at once")
    per_label = whole(found.get("per_label", 1), "images of each class", 1, most)
    seed = whole(found.get("seed", 0), "seed", 0, LARGEST_SEED - limits.images)
    return DrawAsked(labels, per_label, seed, drawing_asked(found, pipeline, limits))


def edit_asked(text: str, pipeline: Pipeline, limits: Limits) -> EditAsked:
    """A request in JSON -> an edit; ValueError in a line for everything that is not one."""
    found = _object(text, OF_EDIT)
    what = found.get("what")
    if not isinstance(what, str) or what not in EDIT_KEYS:
        raise ValueError(f"edits are {', '.join(EDIT_KEYS)}{suggest(str(what)[:20], EDIT_KEYS)}")
    if what != "variation":
        check_places(pipeline)
    own = {key: found[key] for key in EDIT_KEYS[what] if found.get(key) is not None}
    if len(own) != 1:
        raise ValueError(f"{what} needs {' or '.join(sorted(EDIT_KEYS[what]))}")
    image = picture_asked(found.get("image"), pipeline, limits)
    [label] = _labels([found.get("label", 0)], pipeline)
    height, width = image.shape[1:]
    read: dict[str, Callable[[Any], Any]] = {
        "mask": lambda value: _mask(value, (height, width), limits),
        "box": lambda value: _box(value, (height, width)),
        "margins": lambda value: _margins(value, pipeline, (height, width), limits),
        "keep": lambda value: number(value, "keep", 0, 0.99),
    }
    return EditAsked(
        what,
        (image.shape[0], height, width),
        image.contiguous().numpy().tobytes(),
        label,
        whole(found.get("seed", 0), "seed", 0, LARGEST_SEED),
        drawing_asked(found, pipeline, limits),
        **{key: read[key](value) for key, value in own.items()},
    )


def asked_by(text: str, pipeline: Pipeline, limits: Limits) -> DrawAsked | EditAsked:
    """Either of the two: an edit says `what`."""
    if "what" in _object(text, OF_DRAW | OF_EDIT):
        return edit_asked(text, pipeline, limits)
    return draw_asked(text, pipeline, limits)


def opened(text: str, pipeline: Pipeline, limits: Limits) -> Tensor:
    """A request in JSON with a file of the visitor's -> uint8 (channels, height, width)."""
    return picture_asked(_object(text, {"image"}).get("image"), pipeline, limits)


def thumbs_asked(text: str, pipeline: Pipeline, limits: Limits) -> list[int]:
    """A request in JSON with labels -> these labels."""
    found = _labels(_object(text, {"labels"}).get("labels"), pipeline)
    if len(found) > limits.thumbnails:
        raise ValueError(f"{limits.thumbnails} classes have their pictures made at once, at most")
    return found


def drawing_asked(found: Mapping[str, Any], pipeline: Pipeline, limits: Limits) -> Drawing:
    """The settings of a request, known to be right for this pipeline."""
    given = {key: found[key] for key in sorted(SETTINGS) if found.get(key) is not None}
    for key in ("preset", "sampler"):
        if key in given and not (isinstance(given[key], str) and len(given[key]) <= 100):
            raise ValueError(f"{key} is a name")
    if "steps" in given:
        given["steps"] = whole(given["steps"], "rounds", 1, limits.rounds)
    for key, most in (("guidance", 20.0), ("temperature", 5.0)):
        if key in given:
            given[key] = number(given[key], key, 0, most)
    settings = pipeline.settings(**given)
    rounds = settings.sampler.get("steps", 0)
    if rounds > limits.rounds:
        given["steps"] = limits.rounds
    if settings.guidance.get("scale", 1.0) != 1 and not guided(pipeline):
        raise ValueError("this model was trained without guidance: its scale is 1")
    return Drawing(tuple(given.items()))


def guided(pipeline: Pipeline) -> bool:
    """Whether the net knows `no label`, by which guidance works."""
    try:
        pipeline.net.null(torch.zeros(1, dtype=torch.int64))
    except ValueError:
        return False
    return True


def picture_asked(value: Any, pipeline: Pipeline, limits: Limits) -> Tensor:
    """A file in base 64 -> uint8 (channels, height, width) that can be edited.

    One of a size that the model cannot edit, or too large, is cut to the model's own.
    """
    picture = _opened(value, "the picture", limits)
    channels = pipeline.tokenizer.channels
    size = picture.height, picture.width
    if editable(pipeline, size, limits):
        return to_pixels(picture, channels)
    if min(size) * 50 < max(size):
        raise ValueError("the picture is too long and thin")
    return torch.from_numpy(Transform(pipeline.tokenizer.image_size, channels)(picture).copy())


def editable(pipeline: Pipeline, size: Sequence[int], limits: Limits) -> bool:
    """Whether a picture (height, width) is edited as it is."""
    own = pipeline.tokenizer.image_size
    if size[0] * size[1] > limits.larger * own * own:
        return False
    try:
        check_image(pipeline, size)
    except ValueError:
        return False
    return True


def whole(value: Any, what: str, least: int, most: int) -> int:
    """A whole number in least .. most, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what}: a whole number from {least} to {most}, not {value!r:.30}")
    return value


def number(value: Any, what: str, least: float, most: float) -> float:
    """A number in least .. most, or ValueError."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not least <= value <= most:
        raise ValueError(f"{what}: a number from {least:g} to {most:g}, not {value!r:.30}")
    return float(value)


def _object(text: str, known: set[str]) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError, TypeError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("a request is an object in JSON")
    strange = sorted(set(found) - known)
    if strange:
        raise ValueError(f"a request has no {strange[0]!r:.30}{suggest(strange[0][:30], known)}")
    return found


def _labels(values: Any, pipeline: Pipeline) -> list[int]:
    count = len(pipeline.class_names)
    if not isinstance(values, list) or not values:
        raise ValueError("choose a class")
    return [whole(value, "class", 0, count - 1) for value in values]


def _opened(value: Any, what: str, limits: Limits) -> Image.Image:
    """A decoded picture; only the bytes themselves are read, no address and no path."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is missing")
    text = ADDRESS.sub("", value[:50]) + value[50:]
    if len(text) > limits.file_bytes * 4 // 3 + 4:
        raise ValueError(f"{what} is larger than {limits.file_bytes / 2**20:g} MB")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} is no picture that can be read") from None
    return _decoded(data, what, limits)


def _decoded(data: bytes, what: str, limits: Limits) -> Image.Image:
    with_header = _header(data, what)
    if with_header[0] * with_header[1] > limits.file_pixels:
        raise ValueError(
            f"{what} has {with_header[0]}x{with_header[1]} pixels: "
            f"{limits.file_pixels / 1e6:g} million are the most"
        )
    try:
        return open_image(data)
    except (OSError, ValueError):
        raise ValueError(f"{what} is no picture that can be read") from None


def _header(data: bytes, what: str) -> tuple[int, int]:
    """(width, height) before anything is decoded, of the kinds of files that browsers show."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as image:
            return image.size
    except Exception:  # a decoder fails on bad bytes in many ways
        raise ValueError(f"{what} is no picture that can be read") from None


def _mask(value: Any, size: tuple[int, int], limits: Limits) -> bytes:
    mask = to_mask(_opened(value, "the mask", limits))
    if mask.shape != size:
        raise ValueError("the mask is not of the size of its picture")
    if not mask.any():
        raise ValueError("nothing is painted: brush over what shall be drawn anew")
    return mask.numpy().astype(np.uint8).tobytes()


def _four(value: Any, what: str, most: int) -> list[int]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"{what}: four whole numbers, left, top, right and bottom")
    return [whole(one, what, 0, most) for one in value]


def _box(value: Any, size: tuple[int, int]) -> tuple[int, ...]:
    left, top, right, bottom = _four(value, "box", max(size))
    box_mask(*size, (left, top, right, bottom))
    return left, top, right, bottom


def _margins(
    value: Any, pipeline: Pipeline, size: tuple[int, int], limits: Limits
) -> tuple[int, ...]:
    own = pipeline.tokenizer.image_size
    left, top, right, bottom = _four(value, "margins", LARGEST_MARGIN)
    area = (size[0] + top + bottom) * (size[1] + left + right)
    if area > limits.larger * own * own:
        raise ValueError(
            f"the picture grows too large: {limits.larger} times the model's own are the most"
        )
    return left, top, right, bottom
