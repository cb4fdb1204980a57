"""Hiding cells: how many, which, and what the net sees there.

Pure functions with an explicit generator.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskgit.schedules import Schedule


class Corrupted(NamedTuple):
    """A grid as the net sees it."""

    inputs: Tensor  # (batch, *grid) int64, hidden cells mostly equal to mask_id
    hidden: Tensor  # (batch, *grid) bool, True = to be predicted


def stratified_times(num_images: int, generator: torch.Generator | None = None) -> Tensor:
    """t_i = (u + i) / B, one in each of B equal parts of [0, 1): their mean hardly varies.
    (num_images,) float32.

    Image i always lies in part i: the images of a batch must be in random order, or t be shuffled.
    """
    device = generator.device if generator is not None else "cpu"
    u = torch.rand((), generator=generator, device=device)
    return (u + torch.arange(num_images, device=device)) / num_images


def count_hidden(schedule: Schedule, t: Tensor, num_cells: int) -> Tensor:
    """How many cells are hidden at progress t: max(1, round(gamma(t) N)). (batch,) int64."""
    return (schedule(t) * num_cells).round().long().clamp(1, num_cells)


def hide_exactly(
    codes: Tensor, num_hidden: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Exactly `num_hidden[i]` cells of image i, every set of so many alike: bool (batch, *grid)."""
    noise = torch.rand(codes.flatten(1).shape, generator=generator, device=codes.device)
    ranks = torch.arange(noise.shape[1], device=codes.device)
    hidden = torch.zeros(noise.shape, dtype=torch.bool, device=codes.device)
    return hidden.scatter_(1, noise.argsort(1), ranks < num_hidden[:, None]).view_as(codes)


def hide_independently(
    codes: Tensor, share: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Each cell of image i with probability `share[i]` (MDLM): bool (batch, *grid)."""
    noise = torch.rand(codes.flatten(1).shape, generator=generator, device=codes.device)
    return (noise < share[:, None]).view_as(codes)


def corrupt(
    codes: Tensor,
    hidden: Tensor,
    *,
    mask_id: int,
    num_codes: int,
    no_replace_prob: float = 0.0,
    random_token_prob: float = 0.0,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """What the net sees when the cells `hidden` (batch, *grid) bool are to be predicted.

    Of the hidden cells, the share `no_replace_prob` keeps its true code as input; of the rest, the
    share `random_token_prob` gets a uniform code in [0, num_codes), never the mask token. All
    others get `mask_id`.
    """
    inputs = torch.where(hidden, mask_id, codes)
    if random_token_prob > 0:
        swap = torch.rand(codes.shape, generator=generator, device=codes.device) < random_token_prob
        random_codes = torch.randint(
            num_codes, codes.shape, generator=generator, device=codes.device
        )
        inputs = torch.where(hidden & swap, random_codes, inputs)
    if no_replace_prob > 0:
        keep = torch.rand(codes.shape, generator=generator, device=codes.device) < no_replace_prob
        inputs = torch.where(hidden & keep, codes, inputs)
    return Corrupted(inputs, hidden)
