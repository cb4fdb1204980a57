"""Numbers about codes, reconstructions and samples."""

from __future__ import annotations

import torch
from torch import Tensor

from maskgit.classifier import Classifier, predict


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB: (batch,). Both (batch, c, h, w) in [-1, 1], so the peak is 2."""
    error = (images.clamp(-1, 1) - targets).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def code_counts(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: (codebook_size,) int64."""
    return torch.bincount(codes.flatten(), minlength=codebook_size)


def code_share(counts: Tensor) -> float:
    """Share of the codebook that occurs at all."""
    return (counts > 0).double().mean().item()


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of the codes' frequencies: from 1 (one code) to codebook_size (all alike)."""
    p = counts.double() / counts.sum()
    return torch.exp(torch.special.entr(p).sum()).item()


def class_agreement(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of images (n, c, h, w) in [-1, 1] that the classifier reads as their label (n,)."""
    return (predict(classifier, images) == labels).double().mean().item()
