"""Tokenizer: encode(images) -> codes, decode(codes) -> images.

It knows no loss, no data set and no optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from vqgan.autoencoder import Decoder, Encoder
from vqgan.chunks import fitting, in_chunks
from vqgan.devices import answers_at_once
from vqgan.quantizers import QUANTIZERS
from vqgan.quantizers.quantized import is_distributed
from vqgan.registry import Count, OneOf, Positive, build
from vqgan.weights import load_hashed, load_module, save_weights

MOST_ELEMENTS = 2**29
"""Of the largest tensor of a chunk that is encoded or decoded; kernels index up to 2^31."""
MOST_ON_CPUS = 2**27
"""More fill an accelerator, and do nothing for CPUs."""


class Reconstructed(NamedTuple):
    """What a training forward returns."""

    images: Tensor  # (batch, channels, height, width), not clamped
    codes: Tensor  # (batch, h, w) int64, w counting the codes_per_cell of each cell
    loss: Tensor  # the quantizer's own loss, scalar


class Tokenizer(nn.Module):
    """A convolutional autoencoder with a discrete bottleneck (VQGAN, arXiv:2012.09841).

    image_size is the training size; any size divisible by `downscale` can be encoded. channels: 1
    (grey) or 3 (RGB). checkpointing: keep less for the backward pass and compute it twice.
    channels_last: the convolutions' memory format, which GPUs prefer. Neither changes a result.
    """

    def __init__(
        self,
        *,
        image_size: int = 28,
        channels: int = 1,
        widths: Annotated[tuple[Positive, ...], MinLen(1)] = (64, 128, 128),
        num_blocks: Count = 2,
        patch_size: Positive = 1,
        attention: bool = False,
        latent_dim: Positive = 64,
        quantizer: Annotated[
            str | Mapping[str, Any], OneOf(QUANTIZERS, "quantizer", ("dim",))
        ] = "fsq",
        checkpointing: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.config = {
            key: value for key, value in locals().items() if key not in ("self", "__class__")
        }
        self.downscale = patch_size * 2 ** (len(widths) - 1)
        self.image_size, self.channels = image_size, channels
        self.elements = max(widths[:2]) / patch_size**2  # of the largest tensor, for each pixel
        self.check_size(image_size, image_size)
        shape: dict[str, Any] = {
            "widths": widths, "num_blocks": num_blocks, "patch_size": patch_size,
            "attention": attention,
            "checkpointing": checkpointing,
        }  # fmt: skip
        self.encoder = Encoder(channels, latent_dim, **shape)
        self.quantizer = build(QUANTIZERS, quantizer, "quantizer", latent_dim)
        self.decoder = Decoder(channels, latent_dim, **shape)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)

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

    def forward(self, images: Tensor, accumulate: bool = False) -> Reconstructed:
        """images: (batch, channels, height, width) in [-1, 1] -> Reconstructed, for training.

        No latent reaches the codebook where one is not finite, on any process: a codebook that has
        seen one never recovers. CPUs then raise FloatingPointError; accelerators, which are not
        waited for, go on with zeros, and the loss is nan.
        """
        latents = self.encoder(images)
        finite = torch.isfinite(latents).all()
        if is_distributed():
            finite = finite.int()
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        waits = answers_at_once(latents.device)
        if waits and not finite:
            raise FloatingPointError("the encoder's output is not finite")
        if not waits:
            latents = torch.where(finite.bool(), latents, 0.0)
        quantized = self.quantizer(latents, accumulate=accumulate)
        loss = quantized.loss
        if not waits:
            loss = loss + torch.where(finite.bool(), 0.0, float("nan"))
        return Reconstructed(self.decoder(quantized.latents), quantized.codes, loss)

    @torch.no_grad()
    def expect(self, parts: Iterable[Tensor]) -> None:
        """Before a training step in several calls: the images of all of them, for quantizers whose
        loss is not a mean over cells."""
        if (expect := getattr(self.quantizer, "expect", None)) is not None:
            expect(self.encoder(images) for images in parts)

    def forget(self) -> None:
        """What the parts of a step have added up, where the step is given up."""
        if (forget := getattr(self.quantizer, "forget", None)) is not None:
            forget()

    def last_layer(self, images: Tensor) -> Tensor:
        """`forward`'s images, with a graph of the last convolution only; no codebook moves."""
        with torch.no_grad():
            was_training = self.quantizer.training
            self.quantizer.eval()
            hidden = self.decoder.layers(self.quantizer(self.encoder(images)).latents)
            self.quantizer.train(was_training)
        return self.decoder.unfold(self.decoder.to_pixels(hidden))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """images: (batch, channels, height, width) in [-1, 1] -> codes: (batch, h, w) int64.

        Never trains. As many images at once as memory allows, however many they are.
        """
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

    def save(self, path: str | Path, extra: Mapping[str, Any] | None = None) -> str:
        """Write a .safetensors file with the config (and `extra`, e.g. the run's) inside.

        -> its hash.
        """
        return save_weights(
            path, self.state_dict(), "tokenizer", {"model": self.config, **(extra or {})}
        )

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a file, in eval mode on the CPU; ValueError if it is damaged."""
        return load_module(path, "tokenizer", cls._of)[0].eval()

    @classmethod
    def load_hashed(cls, path: str | Path) -> tuple[Tokenizer, dict[str, Any], str]:
        """-> (as `load`, the config of the file, the content hash), of one reading."""
        found, config, content = load_hashed(path, "tokenizer", cls._of)
        return found.eval(), config, content

    @classmethod
    def _of(cls, config: Mapping[str, Any]) -> Tokenizer:
        return cls(**config["model"])


def _joined(work: Callable[[slice], Tensor], rows: Tensor, size: int) -> Tensor:
    """work(slice) of all rows, `size` at once."""
    found = list(in_chunks(work, len(rows), size)) if len(rows) else [work(slice(None))]
    return found[0] if len(found) == 1 else torch.cat(found)
