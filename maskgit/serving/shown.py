"""Pictures as a page shows them: PNG bytes of images, and of a grid that is being filled."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from torch import Tensor

from maskgit.data.pixels import to_pil


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def address(data: bytes, kind: str = "image/png") -> str:
    """The bytes as an address that an <img> takes."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def tiles(images: Tensor) -> list[str]:
    """Images (n, channels, height, width) in [-1, 1] -> addresses of their PNGs."""
    return [address(png(to_pil(image))) for image in images]


def written(write: Callable[[Path], Any], name: str) -> bytes:
    """The bytes that a function writes to a file of that name."""
    with TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()
