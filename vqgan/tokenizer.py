"""Tokenizer: the autoencoder that is trained here.

It knows no loss, no data set and no optimiser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import torch
import torch.distributed as dist
from annotated_types import Le, MaxLen, MinLen
from torch import Tensor

from vqgan.autoencoder import Decoder, Encoder
from vqgan.devices import answers_at_once
from vqgan.grids import GridTokenizer
from vqgan.quantizers import QUANTIZERS
from vqgan.quantizers.quantized import is_distributed
from vqgan.registry import Count, OneOf, Size, build

MOST_WIDTHS = 16
"""More would halve an image more often than any has pixels."""


class Reconstructed(NamedTuple):
    """What a training forward returns."""

    images: Tensor  # (batch, channels, height, width), not clamped
    codes: Tensor  # (batch, h, w) int64, w counting the codes_per_cell of each cell
    loss: Tensor  # the quantizer's own loss, scalar


class Tokenizer(GridTokenizer):
    """A convolutional autoencoder with a discrete bottleneck (VQGAN, arXiv:2012.09841).

    image_size is the training size; any size divisible by `downscale` can be encoded. channels: 1
    (grey), 3 (RGB) or 4 (RGB times alpha, and alpha). checkpointing: keep less for the
    backward pass and compute it twice. channels_last: the convolutions' memory format, which GPUs
    prefer. Neither changes a result.
    """

    def __init__(
        self,
        *,
        image_size: int = 28,
        channels: int = 1,
        widths: Annotated[tuple[Size, ...], MinLen(1), MaxLen(MOST_WIDTHS)] = (64, 128, 128),
        num_blocks: Annotated[Count, Le(1000)] = 2,
        patch_size: Size = 1,
        attention: bool = False,
        latent_dim: Size = 64,
        quantizer: Annotated[
            str | Mapping[str, Any], OneOf(QUANTIZERS, "quantizer", ("dim",))
        ] = "fsq",
        checkpointing: bool = False,
        channels_last: bool = False,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__(
            config,
            image_size=image_size,
            channels=channels,
            downscale=patch_size * 2 ** (len(widths) - 1),
            elements=max(widths[:2]) / patch_size**2,
        )
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
