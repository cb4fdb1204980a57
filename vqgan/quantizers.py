"""Latents -> codes -> latents: thin adapters over vector-quantize-pytorch, the only file that imports it.

An adapter is a module with `codebook_size`, `forward(latents) -> Quantized` and `lookup(codes) -> latents`. All of
them quantise in float32 whatever autocast says: under bf16 some 2.5 % of the codes would change.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import vector_quantize_pytorch as vqp
from einops import rearrange
from torch import Tensor, nn


class Quantized(NamedTuple):
    """What a quantizer returns."""

    latents: Tensor  # (batch, dim, height, width), with a straight-through gradient
    codes: Tensor  # (batch, height, width) int64 in [0, codebook_size)
    loss: Tensor  # scalar, zero in eval mode


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _check_range(codes: Tensor, codebook_size: int) -> None:
    """The library decodes a code outside the codebook silently; we do not."""
    if codes.numel() and (codes.min() < 0 or codes.max() >= codebook_size):
        raise ValueError(
            f"codes must lie in [0, {codebook_size}), found {codes.min().item()} to {codes.max().item()}"
            " (is a cell still hidden?)"
        )


class VQ(nn.Module):
    """Nearest neighbour in a learned codebook (VQ-VAE, arXiv:1711.00937) that does not collapse.

    Low-dimensional, l2-normalised codes (ViT-VQGAN, arXiv:2110.04627), EMA codebook, gradients by the rotation trick
    (arXiv:2410.06424). Codes used by fewer than `dead_below` cells a step, averaged, are restarted from the batch: all
    of a fresh codebook in the first training step, its initialisation from data, and one that nobody uses again after
    log(4) / (1 - decay) steps.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 512,
        codebook_dim: int = 16,
        decay: float = 0.99,
        commitment: float = 0.25,
        dead_below: float = 0.5,
        cosine: bool = True,
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.vq = vqp.VectorQuantize(
            dim=dim,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
            decay=decay,
            commitment_weight=commitment,
            threshold_ema_dead_code=dead_below,
            use_cosine_sim=cosine,
            sync_codebook=_is_distributed(),
        )
        codebook = self.vq._codebook
        codebook.cluster_size.zero_()
        codebook.embed_avg.zero_()
        codebook.reset_cluster_size = 4 * dead_below

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized. `accumulate`: more of this step is to come."""
        height = latents.shape[-2]
        with torch.autocast(latents.device.type, enabled=False):
            flat = rearrange(latents.float(), "b d h w -> b (h w) d")
            quantized, codes, loss = self.vq(flat, accum_ema_update=accumulate)
        return Quantized(
            rearrange(quantized, "b (h w) d -> b d h w", h=height),
            rearrange(codes, "b (h w) -> b h w", h=height),
            loss.sum(),
        )

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        _check_range(codes, self.codebook_size)
        return self.vq.project_out(self.vq.codebook[codes]).movedim(-1, 1)


class FSQ(nn.Module):
    """Round each latent dimension to a few levels (arXiv:2309.15505): no codebook, no loss, no collapse."""

    def __init__(self, dim: int, *, levels: tuple[int, ...] = (8, 6, 5)) -> None:
        super().__init__()
        self.fsq = vqp.FSQ(levels=list(levels), dim=dim, preserve_symmetry=2 in levels)
        self.codebook_size = self.fsq.codebook_size

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized. `accumulate` changes nothing here."""
        with torch.autocast(latents.device.type, enabled=False):
            quantized, codes = self.fsq(latents.float())
        return Quantized(quantized, codes.long(), quantized.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        _check_range(codes, self.codebook_size)
        return self.fsq.indices_to_codes(codes)


class LFQ(nn.Module):
    """The signs of log2(K) latent dimensions, with an entropy loss (MAGVIT-v2, arXiv:2310.05737).

    `codebook_size` is a power of two. `entropy_share` < 1 estimates the entropy on that share of the cells, since the
    term holds cells x codebook_size numbers.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 1024,
        entropy_weight: float = 0.02,
        commitment: float = 0.25,
        diversity: float = 1.0,
        entropy_share: float = 1.0,
    ) -> None:
        super().__init__()
        if codebook_size < 2 or codebook_size & (codebook_size - 1):
            raise ValueError(f"lfq needs a codebook_size that is a power of two, not {codebook_size}")
        self.codebook_size = codebook_size
        self.lfq = vqp.LFQ(
            dim=dim,
            codebook_size=codebook_size,
            entropy_loss_weight=entropy_weight,
            commitment_loss_weight=commitment,
            diversity_gamma=diversity,
            frac_per_sample_entropy=entropy_share,
        )

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized; the loss may be negative. `accumulate` changes nothing."""
        with torch.autocast(latents.device.type, enabled=False):
            quantized, codes, loss = self.lfq(latents.float())
        return Quantized(quantized, codes.long(), loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        _check_range(codes, self.codebook_size)
        return self.lfq.indices_to_codes(codes)


QUANTIZERS = {"vq": VQ, "fsq": FSQ, "lfq": LFQ}
