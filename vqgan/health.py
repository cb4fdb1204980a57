"""How well a tokenizer does: what it keeps of the pixels, and how its codes are used."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB: (batch,).

    Both (batch, c, h, w) in [-1, 1], so the peak is 2.
    """
    error = (images.clamp(-1, 1) - targets).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def code_counts(codes: Tensor, codebook_size: int, codes_per_cell: int = 1) -> Tensor:
    """How often each code occurs, by a cell's codes: (codes_per_cell, codebook_size) int64.

    codes: (..., cells * codes_per_cell).
    """
    depths = codes.flatten().view(-1, codes_per_cell).T
    return torch.stack([torch.bincount(depth, minlength=codebook_size) for depth in depths])


def code_share(counts: Tensor) -> float:
    """Share of the codebook that occurs at all; of several, of the least used one."""
    return (counts.cpu() > 0).double().mean(-1).min().item()


def perplexity(counts: Tensor) -> float:
    """exp of the frequencies' entropy, 1 (one code) to codebook_size (all alike); the least one."""
    counts = counts.cpu()  # not every device has float64
    p = counts.double() / counts.sum(-1, keepdim=True)
    return torch.exp(torch.special.entr(p).sum(-1)).min().item()


def code_health(counts: Tensor) -> dict[str, float]:
    """codes_used (share), perplexity and dead_codes (number) of counts, in the worst codebook."""
    return {
        "codes_used": code_share(counts),
        "perplexity": perplexity(counts),
        "dead_codes": float((counts == 0).sum(-1).max()),
    }


FEW_CELLS = 16
"""Fewer say nothing of a codebook's use."""


def unused_codes(counts: Tensor, remedy: str) -> str | None:
    """A warning with the remedy, if fewer than half the codes of as many random draws are used."""
    used, codebook_size = code_share(counts), counts.shape[-1]
    expected = -math.expm1(-counts.sum().item() / len(counts) / codebook_size)
    if used >= 0.5 * expected or counts.sum() < max(FEW_CELLS, codebook_size / 4):
        return None
    return f"only {used:.0%} of the codes are used: {remedy}"
