"""Latents -> codes -> latents: thin adapters over vector-quantize-pytorch, the only file that imports it.

An adapter is a module with `codebook_size`, `forward(latents) -> Quantized` and `lookup(codes) -> latents`, and with
`codes_per_cell` if it writes several codes, side by side, for a cell of the latents. All of them quantise in float32
whatever autocast says: under bf16 some 2.5 % of the codes would change.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
import vector_quantize_pytorch as vqp
from einops import rearrange
from torch import Tensor, nn
from torch.distributed.nn import all_reduce


class Quantized(NamedTuple):
    """What a quantizer returns."""

    latents: Tensor  # (batch, dim, height, width), with a straight-through gradient
    codes: Tensor  # (batch, height, width * codes_per_cell) int64 in [0, codebook_size)
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


def _start_from_data(vq: vqp.VectorQuantize, dead_below: float) -> None:
    """Let the first training step restart all codes from its batch; a restarted code weighs as much as four deaths."""
    codebook = vq._codebook
    codebook.cluster_size.zero_()
    codebook.embed_avg.zero_()
    codebook.reset_cluster_size = 4 * dead_below


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
        _start_from_data(self.vq, dead_below)

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


class BSQ(nn.Module):
    """The signs of log2(K) coordinates of a unit vector (binary spherical quantization, arXiv:2406.07548).

    The bits are independent given the unit vector, so that its entropy loss (eq. 10 to 13) is a sum over bits: nothing
    of size codebook_size is ever made, and codebooks of 2^18 cost as much as small ones. `codebook_size` is a power of
    two; the first bit of a code is its most significant.
    """

    bits: Tensor

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 1024,
        entropy_weight: float = 0.1,
        diversity: float = 1.0,
        commitment: float = 0.25,
        inverse_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if codebook_size < 2 or codebook_size & (codebook_size - 1):
            raise ValueError(f"bsq needs a codebook_size that is a power of two, not {codebook_size}")
        self.codebook_size, self.num_bits = codebook_size, codebook_size.bit_length() - 1
        self.entropy_weight, self.diversity, self.commitment = entropy_weight, diversity, commitment
        self.inverse_temperature = inverse_temperature
        self.project_in, self.project_out = nn.Linear(dim, self.num_bits), nn.Linear(self.num_bits, dim)
        self.register_buffer("bits", 2 ** torch.arange(self.num_bits - 1, -1, -1), persistent=False)

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized; the loss may be negative. `accumulate` changes nothing."""
        with torch.autocast(latents.device.type, enabled=False):
            u = F.normalize(self.project_in(latents.float().movedim(1, -1)), dim=-1)
            codes = ((u > 0) * self.bits).sum(-1)
            corners = self._corners(codes)
            out = self.project_out(u + (corners - u).detach()).movedim(-1, 1)
        return Quantized(out, codes, self._loss(u, corners) if self.training else u.new_zeros(()))

    def _loss(self, u: Tensor, corners: Tensor) -> Tensor:
        """Commitment, and the entropy of a cell's bits less that of all cells' bits (mean over bits, in nats)."""
        p = torch.sigmoid(2 * self.inverse_temperature * u / self.num_bits**0.5)  # that the bit is one
        mean = p.flatten(0, -2).mean(0)
        if _is_distributed():
            mean = all_reduce(mean) / dist.get_world_size()
        entropy = _bit_entropy(p).mean() - self.diversity * _bit_entropy(mean).mean()
        return self.commitment * (u - corners).square().sum(-1).mean() + self.entropy_weight * entropy

    def _corners(self, codes: Tensor) -> Tensor:
        """(...) -> (..., bits): the nearest corner of the cube inside the unit sphere."""
        signs = ((codes[..., None] & self.bits) != 0).float() * 2 - 1
        return signs / self.num_bits**0.5

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        _check_range(codes, self.codebook_size)
        return self.project_out(self._corners(codes)).movedim(-1, 1)


def _bit_entropy(p: Tensor) -> Tensor:
    """Of a coin with probability p, in nats."""
    return torch.special.entr(p) + torch.special.entr(1 - p)


class SimVQ(nn.Module):
    """Nearest neighbour in a frozen random codebook behind one learned linear map (SimVQ, arXiv:2411.02038).

    All codes move together, so that none is left behind; gradients by the rotation trick (arXiv:2410.06424).
    """

    def __init__(
        self, dim: int, *, codebook_size: int = 1024, codebook_dim: int = 16, commitment: float = 0.25
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.project_in, self.project_out = nn.Linear(dim, codebook_dim), nn.Linear(codebook_dim, dim)
        self.sim_vq = vqp.SimVQ(
            dim=codebook_dim, codebook_size=codebook_size, input_to_quantize_commit_loss_weight=commitment
        )

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized. `accumulate` changes nothing here."""
        with torch.autocast(latents.device.type, enabled=False):
            quantized, codes, loss = self.sim_vq(self.project_in(latents.float().movedim(1, -1)))
            out = self.project_out(quantized).movedim(-1, 1)
        return Quantized(out, codes.long(), loss if self.training else loss.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        _check_range(codes, self.codebook_size)
        return self.project_out(self.sim_vq.codebook[codes]).movedim(-1, 1)


class RVQ(nn.Module):
    """Several codes a cell, each the nearest neighbour of what those before it left over (RQ-VAE, arXiv:2203.01941).

    The codes of a cell stand side by side in the grid, coarse to fine: a generator sees `codes_per_cell` times as many
    columns and needs no change. Each depth has a codebook of its own, by averages as in VQ, with Euclidean distance.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 256,
        codes_per_cell: int = 2,
        codebook_dim: int = 16,
        decay: float = 0.99,
        commitment: float = 0.25,
        dead_below: float = 0.5,
    ) -> None:
        super().__init__()
        if codes_per_cell < 2:
            raise ValueError(f"rvq writes 2 or more codes_per_cell, not {codes_per_cell}: vq writes one")
        self.codebook_size, self.codes_per_cell = codebook_size, codes_per_cell
        self.project_in, self.project_out = nn.Linear(dim, codebook_dim), nn.Linear(codebook_dim, dim)
        self.depths = nn.ModuleList(
            vqp.VectorQuantize(
                dim=codebook_dim,
                codebook_size=codebook_size,
                decay=decay,
                commitment_weight=commitment,
                threshold_ema_dead_code=dead_below,
                sync_codebook=_is_distributed(),
            )
            for _ in range(codes_per_cell)
        )
        for vq in self.depths:
            _start_from_data(vq, dead_below)

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized. `accumulate`: more of this step is to come."""
        height = latents.shape[-2]
        with torch.autocast(latents.device.type, enabled=False):
            wanted = self.project_in(rearrange(latents.float(), "b d h w -> b (h w) d"))
            rest, loss, found = wanted, wanted.new_zeros(()), []
            for vq in self.depths:
                quantized, codes, cost = vq(rest, accum_ema_update=accumulate)
                rest, loss = rest - quantized.detach(), loss + cost.sum()
                found.append(codes)
            out = self.project_out(wanted - rest.detach())
        codes = rearrange(torch.stack(found, -1), "b (h w) q -> b h (w q)", h=height)
        return Quantized(rearrange(out, "b (h w) d -> b d h w", h=height), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width * codes_per_cell) int64 -> latents: (batch, dim, height, width)."""
        _check_range(codes, self.codebook_size)
        parts = rearrange(codes, "b h (w q) -> q b h w", q=self.codes_per_cell)
        found = [vq.codebook[part] for vq, part in zip(self.depths, parts, strict=True)]  # type: ignore[index]
        return self.project_out(torch.stack(found).sum(0)).movedim(-1, 1)


QUANTIZERS = {"vq": VQ, "fsq": FSQ, "lfq": LFQ, "bsq": BSQ, "sim_vq": SimVQ, "rvq": RVQ}
