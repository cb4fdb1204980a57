"""GridTokenizer: encode(images) -> codes, decode(codes) -> images, whatever its parts are.

It knows no loss, no data set and no optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqgan.chunks import fitting, in_chunks
from vqgan.weights import save_weights

MOST_ELEMENTS = 2**29
"""Of the largest tensor of a chunk that is encoded or decoded; kernels index up to 2^31."""
MOST_ON_CPUS = 2**27
"""More fill an accelerator, and do nothing for CPUs."""
NO_PLACES = (
    "this tokenizer's codes have no places in the image: each may change all of it, "
    "so that no part of it can be drawn alone"
)
"""Why an edit is refused."""


class GridTokenizer(nn.Module):
    """What the tokenizers of vqgan.tokenizers.TOKENIZERS have in common.

    encoder: images (batch, channels, height, width) in [-1, 1] -> latents (batch, dim, h, w);
    quantizer: as those of QUANTIZERS; decoder: latents -> images. config: the keywords that it is
    made of, JSON values, with its `name` in TOKENIZERS unless that is the default. elements: of the
    largest tensor, for each pixel.
    """

    encoder: Any
    quantizer: Any
    decoder: Any
    memory_format: torch.memory_format = torch.contiguous_format
    has_places = True
    """Whether a code is of some pixels; those of a sequence (1 x n) are of the whole image."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        image_size: int,
        channels: int,
        downscale: int,
        elements: float,
    ) -> None:
        super().__init__()
        self.config = dict(config)
        self.image_size, self.channels = image_size, channels
        self.downscale, self.elements = downscale, elements
        self.check_size(image_size, image_size)

    @property
    def codebook_size(self) -> int:
        """The number of codes, K."""
        return int(self.quantizer.codebook_size)

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the codes of a training image."""
        return self.grid_of(self.image_size, self.image_size)

    @property
    def remedy(self) -> str:
        """What to change where few of the codes are used."""
        return str(self.quantizer.remedy)

    @property
    def code_levels(self) -> tuple[int, ...]:
        """The levels of a code of several small numbers, the least significant first; else none."""
        return tuple(getattr(self.quantizer, "code_levels", ()))

    @property
    def codes_per_cell(self) -> int:
        """How many codes, side by side, stand for a cell of `downscale` x `downscale` pixels."""
        return int(getattr(self.quantizer, "codes_per_cell", 1))

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the codes of images of a size in pixels; ValueError if it does not divide."""
        self.check_size(height, width)
        return height // self.downscale, width // self.downscale * self.codes_per_cell

    def size_of(self, grid: Sequence[int]) -> tuple[int, int]:
        """(height, width) in pixels of images with so many codes (h, w)."""
        return grid[0] * self.downscale, grid[1] // self.codes_per_cell * self.downscale

    def codes_of(self, pixels: Tensor) -> Tensor:
        """Bool (height, width) -> bool (h, w): codes of cells with at least one of the pixels."""
        cells = F.max_pool2d(pixels[None, None].float(), self.downscale)[0, 0].bool()
        return cells.repeat_interleave(self.codes_per_cell, 1)

    def pixels_of(self, codes: Tensor) -> Tensor:
        """Bool (..., h, w) -> bool (..., height, width): pixels of cells with one of the codes."""
        cells = self._cells(codes)
        return cells.repeat_interleave(self.downscale, -2).repeat_interleave(self.downscale, -1)

    def _cells(self, codes: Tensor) -> Tensor:
        """Bool (..., h, w * codes_per_cell) -> bool (..., h, w): any of a cell's codes."""
        return codes.unflatten(-1, (-1, self.codes_per_cell)).any(-1)

    def check_size(self, height: int, width: int) -> None:
        """ValueError, with sizes that would do, unless `downscale` divides both sides."""
        f = self.downscale
        if height % f or width % f or min(height, width) < 1:
            near = [max(f, round(side / f) * f) for side in (height, width)]
            raise ValueError(
                f"images of {height}x{width} do not divide by the tokenizer's downscale {f}; "
                f"the nearest size that does is {near[0]}x{near[1]}"
            )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> codes: (batch, h, w) int64.

        Never trains. As many images at once as memory allows, however many they are.
        """
        if images.ndim != 4 or images.shape[1] != self.channels or not images.is_floating_point():
            wanted = f"(batch, {self.channels}, height, width) of floats in [-1, 1]"
            raise ValueError(f"images are {wanted}, not {tuple(images.shape)} of {images.dtype}")
        height, width = images.shape[-2:]
        self.check_size(height, width)
        size = self.at_once(height, width, images.device)
        was_training = self.training
        self.eval()
        codes = _joined(lambda part: self.quantizer(self.encoder(images[part])).codes, images, size)
        self.train(was_training)
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor, hidden: Tensor | None = None) -> Tensor:
        """codes: (batch, h, w) int64 in [0, codebook_size) -> images: (batch, channels, f h, f w)
        in [-1, 1].

        hidden: bool (batch, h, w), unknown codes; their cells are decoded from a zero latent. As
        many at once as memory allows.
        """
        if codes.ndim != 3:
            raise ValueError(f"codes are (batch, h, w), not {tuple(codes.shape)}")
        height, width = self.size_of(codes.shape[1:])
        return _joined(
            lambda part: self._decode(codes[part], None if hidden is None else hidden[part]),
            codes,
            self.at_once(height, width, codes.device),
        )

    def _decode(self, codes: Tensor, hidden: Tensor | None) -> Tensor:
        if hidden is None:
            latents = self.quantizer.lookup(codes)
        else:
            latents = self.quantizer.lookup(codes.masked_fill(hidden, 0)).masked_fill(
                self._cells(hidden)[:, None], 0
            )
        return self.decoder(latents).clamp(-1, 1)

    def at_once(self, height: int, width: int, device: torch.device) -> int:
        """How many images of a size in pixels are encoded or decoded at once on a device.

        By a budget of pixels, and by the memory that is free: five float32 tensors of the largest
        size.
        """
        elements = self.elements * height * width
        most = MOST_ON_CPUS if device.type == "cpu" else MOST_ELEMENTS
        return fitting(most / elements, 20 * elements, device)

    def resized(self, image_size: int) -> GridTokenizer:
        """The same parts, meant for images of another size; ValueError if they do not divide."""
        found = copy(self)
        found.check_size(image_size, image_size)
        found.config = {**self.config, "image_size": image_size}
        found.image_size = image_size
        return found

    def save(
        self,
        path: str | Path,
        extra: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> str:
        """Write a .safetensors file with the config (and `extra`, e.g. the run's) inside.

        dtype: as `save_weights` has it. -> its hash.
        """
        config = {"model": self.config, **(extra or {})}
        return save_weights(path, self.state_dict(), "tokenizer", config, dtype)


def _joined(work: Callable[[slice], Tensor], rows: Tensor, size: int) -> Tensor:
    """work(slice) of all rows, `size` at once."""
    found = list(in_chunks(work, len(rows), size)) if len(rows) else [work(slice(None))]
    return found[0] if len(found) == 1 else torch.cat(found)
