"""Decoding: a batch of grids -> images, each of which depends on its own grid alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from maskgit.machine import one_thread_each
from vqgan.grids import GridTokenizer

ONE_THREAD = 64 * 64
"""Pixels up to which an image is decoded on one thread, others beside it: so it is quicker."""


def decoded(tokenizer: GridTokenizer, codes: Tensor, precision: torch.dtype) -> Iterator[Tensor]:
    """codes: (batch, h, w) -> float32 images (channels, height, width) in [-1, 1].

    On the CPU one by one, and small ones on one thread, since the last bits of its convolutions
    depend on the batch and on the number of threads, and image i shall not. precision: of an
    accelerator's.
    """
    if codes.device.type != "cpu":
        low = precision != torch.float32
        with torch.autocast(codes.device.type, precision, enabled=low):
            images = tokenizer.decode(codes)
        yield from images.float()
        return
    grids, decode = codes.split(1), tokenizer.decode
    small = math.prod(tokenizer.size_of(codes.shape[1:])) <= ONE_THREAD
    yield from torch.cat(
        one_thread_each(decode, grids) if small else [decode(grid) for grid in grids]
    )
