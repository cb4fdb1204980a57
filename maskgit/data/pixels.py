"""Files and PIL images -> uint8 arrays: decoding that does not surprise, resize, crop and flip."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from maskgit.data.alpha import WITH_ALPHA, straight
from vqgan.files import replacing

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded: a 20 KB PNG can unfold to half a gigabyte."""


def open_image(data: str | Path | bytes) -> Image.Image:
    """A decoded image, turned upright by its EXIF tag.

    Raises OSError or ValueError, and no other, for a bad one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(
                        f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels"
                    )
                if image.format != "JPEG":  # of many kinds, some of which go on reading their file
                    return ImageOps.exif_transpose(image)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)  # no copy of what stands upright
                return image
    except (OSError, ValueError):
        raise
    except Exception as error:  # a decoder fails on bad bytes in many ways
        raise ValueError(f"{type(error).__name__}: {error}") from error


DEEP = {"I": (0.0, 65535.0), "F": (0.0, 1.0)}
"""Modes of more than 8 bits by their first letter: what is black and white in them."""


def to_mode(
    image: Image.Image,
    channels: int,
    limits: tuple[float, float] | None = None,
    background: str = "white",
) -> Image.Image:
    """Grey ("L") for 1 channel, "RGB" for 3, "RGBa", which is premultiplied, for 4.

    16-bit and float grey is scaled from `limits`, by default DEEP's, the same for all images;
    what is transparent lies on `background`, unless alpha is wanted. Plain `convert` clips 16-bit
    grey to white, float to black, and shows the hidden colour of transparent pixels. ValueError if
    a pixel lies outside.
    """
    if image.mode[0] in DEEP:
        image = Image.fromarray(_from_deep(image, limits or DEEP[image.mode[0]]))
    if channels == WITH_ALPHA:
        return image.convert("RGBA").convert("RGBa")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    wanted = "L" if channels == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)  # which would be a copy


def _from_deep(image: Image.Image, limits: tuple[float, float]) -> np.ndarray:
    """uint8 (height, width) of a 16-bit, 32-bit or float picture."""
    values, (low, high) = np.asarray(image, dtype=np.float64), limits
    if not np.isfinite(values).all():
        raise ValueError("not all of its pixels are finite numbers")
    if values.size and (values.min() < low or values.max() > high):
        raise ValueError(
            f"its pixels lie in {values.min():g} .. {values.max():g}, not in {low:g} .. {high:g}: "
            "set data.range=[black, white]"
        )
    return ((values - low) / (high - low) * 255).round().astype(np.uint8)


def to_pixels(image: Image.Image, channels: int, background: str = "white") -> Tensor:
    """A picture -> uint8 (channels, height, width), by `to_mode`."""
    pixels = torch.from_numpy(np.array(to_mode(image, channels, background=background)))
    return pixels[None] if channels == 1 else pixels.movedim(-1, 0)


def to_mask(image: Image.Image) -> Tensor:
    """A picture -> bool (height, width), True where it is white; what is transparent is not."""
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return to_pixels(image, 1)[0] > 127


PLAIN = (0.0, 0.5, 0.5, 1.0)
"""The draws of a view that is not augmented: not enlarged, the centre, not mirrored."""


@dataclass(frozen=True)
class Transform:
    """Resize the shorter side with antialiasing and crop a square; what a code cache remembers of
    its images.

    crop: "center", or "random" (at random scale up to `max_scale`) while training. flip: half of
    the images are seen mirrored while training (`mirrors` says which, `Batch.images` mirrors them,
    on the device); a code cache keeps the mirror image as a second view instead.
    range: what is black and white in pictures of more than 8 bits a pixel, by default `DEEP`.
    resample: none for Lanczos by Pillow, "bicubic" by torch, in a fifth of the time, or "nearest",
    for pixel art. resize: none to fill the square and cut what stands over, or "contain": the whole
    picture in the square, with `background` (none for white) where it ends; "random" then makes it
    smaller, and puts it anywhere. background: also what transparent pixels lie on. With 4 channels
    these stay transparent, as does what contain fills.
    """

    image_size: int
    channels: int
    crop: str = "center"
    max_scale: float = 1.25
    flip: bool = False
    range: tuple[float, float] | None = None
    resample: str | None = None
    resize: str | None = None
    background: str | None = None

    def __call__(self, image: Image.Image, draws: np.ndarray | None = None) -> np.ndarray:
        """-> (channels, image_size, image_size) uint8, not mirrored. draws: 4 numbers in [0, 1) to
        augment by, or a plain view."""
        larger, right, down, _ = PLAIN if draws is None else draws.tolist()
        if self.crop == "center":
            larger, right, down = PLAIN[:3]
        image = to_mode(image, self.channels, self.range, self.background or "white")
        scale = 1 + (self.max_scale - 1) * larger
        if self.resize == "contain":
            pixels = self._contained(image, scale, right, down)
        else:
            pixels = self._cut(image, round(self.image_size * scale), right, down)
        return np.ascontiguousarray(
            pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)
        )

    def mirrors(self, draws: np.ndarray | None) -> bool:
        """Whether an image with these draws is seen mirrored."""
        return self.flip and draws is not None and float(draws[3]) < 0.5

    def _cut(self, image: Image.Image, short: int, right: float, down: float) -> np.ndarray:
        """(image_size, image_size[, c]) of the image, once its shorter side is `short`."""
        size, as_it_is = self.image_size, min(image.size) == short
        if self.resample == "bicubic" and not as_it_is:
            return self._cut_bicubic(image, short, right, down)
        if not as_it_is:
            image = image.resize(_resized(image, short), self._filter)
        x, y = _offset(image.width - size, right), _offset(image.height - size, down)
        return np.asarray(image.crop((x, y, x + size, y + size)))

    @property
    def _filter(self) -> Image.Resampling:
        """Pillow's."""
        nearest = self.resample == "nearest"
        return Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS

    def _cut_bicubic(self, image: Image.Image, short: int, right: float, down: float) -> np.ndarray:
        """The same, cut before it is resized, to whole pixels of the image."""
        size, (width, height) = self.image_size, _resized(image, short)
        x, y = _offset(width - size, right), _offset(height - size, down)
        across, along = image.width / width, image.height / height
        sides = x * across, y * along, (x + size) * across, (y + size) * along
        x0, y0, x1, y1 = map(round, sides)
        return _bicubic(np.array(image.crop((x0, y0, x1, y1))), (size, size))

    def _contained(
        self, image: Image.Image, smaller: float, right: float, down: float
    ) -> np.ndarray:
        """(image_size, image_size[, c]): all of the image, on the background.

        Nearest enlarges by whole factors alone, so that pixels stay square.
        """
        size, factor = self.image_size, self.image_size / smaller / max(image.size)
        if self.resample == "nearest" and factor > 1:
            factor = math.floor(factor)
        width, height = (min(size, max(1, round(side * factor))) for side in image.size)
        if self.resample == "bicubic" and image.size != (width, height):
            found = _bicubic(np.array(image), (height, width))
        else:
            found = np.asarray(image.resize((width, height), self._filter))
        square = np.zeros((size, size, *found.shape[2:]), dtype=np.uint8)
        if self.channels != WITH_ALPHA:
            square[:] = ImageColor.getcolor(self.background or "white", image.mode)
        x, y = _offset(size - width, right), _offset(size - height, down)
        square[y : y + height, x : x + width] = found
        return square


def _resized(image: Image.Image, short: int) -> tuple[int, int]:
    """(width, height) once the shorter side is `short`; ValueError if that is too large."""
    scale = short / min(image.size)
    width, height = (max(short, round(side * scale)) for side in image.size)
    if width * height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} is too long and thin to be resized")
    return width, height


def _bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w[, c]) -> (*size[, c]), antialiased; as Pillow's but for rounding."""
    image = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).movedim(-1, 0)
    found = F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]
    return found.movedim(0, -1).reshape(*size, *pixels.shape[2:]).numpy()


def _offset(room: int, draw: float) -> int:
    """One of 0 .. room, all alike for a draw that is uniform in [0, 1); of .5, room // 2."""
    return max(0, math.ceil((room + 1) * draw) - 1)


def to_float(images: Tensor) -> Tensor:
    """uint8 (...) -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float (...) in [-1, 1] -> uint8, rounded to the nearest: what a PNG of the image holds."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """image: (channels, height, width) float in [-1, 1] -> a PIL image, "L", "RGB" or "RGBA".

    Alpha is premultiplied in the one, and straight in the other.
    """
    pixels = to_uint8(image).cpu().numpy()
    if pixels.shape[0] == 1:
        return Image.fromarray(pixels[0])
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(straight(rows) if rows.shape[-1] == WITH_ALPHA else rows)


def save_png(image: Image.Image, path: str | Path, *, flushed: bool = True) -> Path:
    """Write a PNG under a temporary name, then rename it. flushed: as `replacing` has it."""
    with replacing(path, flushed=flushed) as aside:
        image.save(aside, format="PNG")
    return Path(path)


PNG_ENDS_WITH = bytes.fromhex("0000000049454e44ae426082")


def is_whole_png(path: Path) -> bool:
    """Whether a file has the end of a PNG: not if it was cut short, as where power failed."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(PNG_ENDS_WITH), os.SEEK_END)
            return file.read() == PNG_ENDS_WITH
    except OSError:
        return False


WRITERS = 4
"""Threads that compress PNGs: one is slower than an accelerator draws them."""


def save_pngs(pictures: Iterable[tuple[Path, Image.Image]]) -> None:
    """Write many, a few at a time, and end when all are renamed; OSError as the first that failed.

    They are not flushed, which takes 25 ms each on some disks: for what can be drawn again.
    """
    waiting: deque[Future[Path]] = deque()
    with ThreadPoolExecutor(WRITERS) as pool:
        for path, image in pictures:
            waiting.append(pool.submit(save_png, image, path, flushed=False))
            if len(waiting) > 8 * WRITERS:
                waiting.popleft().result()
        for one in waiting:
            one.result()
