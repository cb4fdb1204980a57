"""Codes as vectors: the nearest neighbour in a codebook, one code a cell or several (RVQ)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
import torch.distributed as dist
from annotated_types import Ge, Le
from einops import rearrange
from torch import Tensor, nn

from vqgan.late import late
from vqgan.quantizers.quantized import NumCodes, Quantized, check_range, is_distributed
from vqgan.quantizers.restarts import expire
from vqgan.registry import Share, Size, Weight

with late("einx"):
    import vector_quantize_pytorch as vqp

MOST_DISTANCES = 2**26
"""Of cells to codes at once in eval mode; in training the library holds all, several times over."""


def _is_there(*arguments: object, **options: object) -> None:
    """The codebook's initialisation where there is nothing to do: the library asks the device."""


def _without_waiting(vq: vqp.VectorQuantize) -> None:
    """Restart codes without asking an accelerator which of them are dead."""
    vq._codebook.expire_codes_ = partial(expire, vq._codebook)  # type: ignore[method-assign]


def _start_from_data(vq: vqp.VectorQuantize) -> None:
    """Let the first training step restart all codes from its batch, if it restarts any."""
    vq._codebook.init_embed_ = _is_there  # type: ignore[method-assign]
    if vq._codebook.has_dead_code_replacement:
        vq._codebook.cluster_size.zero_()
        vq._codebook.embed_avg.zero_()


class _Restarts:
    """Which codes are dead: those that are used less than `share` of the mean, averaged over steps.

    A restarted code weighs as much as four deaths.
    """

    def __init__(self, share: float) -> None:
        self.share, self.cells = share, 0

    def expect(self, vq: vqp.VectorQuantize, cells: int, accumulate: bool) -> None:
        """Before a training call on so many cells here; `accumulate`: more are to come."""
        self.cells += cells * (dist.get_world_size() if is_distributed() else 1)
        codebook = vq._codebook
        if codebook.has_dead_code_replacement:
            codebook.threshold_ema_dead_code = self.share * self.cells / codebook.codebook_size
            codebook.reset_cluster_size = 4 * codebook.threshold_ema_dead_code
        if not accumulate:
            self.cells = 0


def _nearest(
    net: nn.Module, cells: Tensor, codebook_size: int, **options: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The library on (batch, cells, dim) -> latents, codes, loss; in eval mode by parts."""
    rows = cells.shape[:-1].numel()
    if net.training or rows * codebook_size <= MOST_DISTANCES:
        latents, codes, loss = net(cells, **options)
        return latents, codes, loss.sum()
    parts = cells.flatten(0, -2)[None].split(max(1, MOST_DISTANCES // codebook_size), dim=1)
    found = [net(part)[:2] for part in parts]
    latents, codes = (
        torch.cat(side, 1)[0].unflatten(0, cells.shape[:-1]) for side in zip(*found, strict=True)
    )
    return latents, codes, latents.new_zeros(())


class VQ(nn.Module):
    """Nearest neighbour in a learned codebook (VQ-VAE, arXiv:1711.00937) that does not collapse.

    Low-dimensional, l2-normalised codes (ViT-VQGAN, arXiv:2110.04627), EMA codebook, gradients by
    the rotation trick (arXiv:2410.06424). Codes used less than `dead_below` of the mean are
    restarted from the batch: nearly all of a fresh codebook in the first training step, its
    initialisation from data, and one that nobody uses again after log(4) / (1 - decay) steps.
    kmeans: start from the means of the first batch in training instead (of its first part, if a
    step has several); before that all codes are 0.

    In training, memory grows as cells times codes; for very many codes, take fsq, lfq or bsq.
    """

    remedy = "take fewer codes, fsq or sim_vq, or a lower codebook_dim"

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: NumCodes = 512,
        codebook_dim: Size = 16,
        decay: Share = 0.99,
        commitment: Weight = 0.25,
        dead_below: Share = 0.15,
        cosine: bool = True,
        kmeans: bool = False,
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.restarts = _Restarts(dead_below)
        self.has_started = not kmeans  # as far as the host knows
        self.vq = vqp.VectorQuantize(
            dim=dim,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
            decay=decay,
            commitment_weight=commitment,
            threshold_ema_dead_code=dead_below,
            use_cosine_sim=cosine,
            kmeans_init=kmeans,
            sync_codebook=is_distributed(),
        )
        _without_waiting(self.vq)
        if not kmeans:
            _start_from_data(self.vq)

    def _is_there(self) -> bool:
        """Whether there is a codebook; a device is asked for it until there is."""
        if not self.has_started and self.vq._codebook.initted:
            self.has_started = True
            self.vq._codebook.init_embed_ = _is_there  # type: ignore[method-assign]
        return self.has_started

    def forget(self) -> None:
        """The parts of a step that is given up."""
        self.restarts.cells = 0

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized.

        `accumulate`: more of this step is to come.
        """
        height = latents.shape[-2]
        # the library would start from this
        if not self._is_there() and not self.training:
            codes = latents.new_zeros(latents[:, 0].shape, dtype=torch.int64)
            return Quantized(self.lookup(codes), codes, latents.new_zeros(()))
        with torch.autocast(latents.device.type, enabled=False):
            flat = rearrange(latents.float(), "b d h w -> b (h w) d")
            if self.training:
                self.restarts.expect(self.vq, flat.shape[:-1].numel(), accumulate)
            quantized, codes, loss = _nearest(
                self.vq, flat, self.codebook_size, accum_ema_update=accumulate
            )
        return Quantized(
            rearrange(quantized, "b (h w) d -> b d h w", h=height),
            rearrange(codes, "b (h w) -> b h w", h=height),
            loss,
        )

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        check_range(codes, self.codebook_size)
        return self.vq.project_out(self.vq.codebook[codes]).movedim(-1, 1)


class SimVQ(nn.Module):
    """Nearest neighbour in a frozen random codebook behind one learned linear map (SimVQ,
    arXiv:2411.02038).

    All codes move together, so that none is left behind; gradients by the rotation trick
    (arXiv:2410.06424). In training, memory grows as cells times codes, as VQ's.
    """

    remedy = "take fewer codes, or a lower codebook_dim"

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: NumCodes = 1024,
        codebook_dim: Size = 16,
        commitment: Weight = 0.25,
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.project_in = nn.Linear(dim, codebook_dim)
        self.project_out = nn.Linear(codebook_dim, dim)
        self.sim_vq = vqp.SimVQ(
            dim=codebook_dim,
            codebook_size=codebook_size,
            input_to_quantize_commit_loss_weight=commitment,
        )

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized. `accumulate` changes nothing here."""
        with torch.autocast(latents.device.type, enabled=False):
            cells = self.project_in(latents.float().movedim(1, -1))
            quantized, codes, loss = _nearest(self.sim_vq, cells.flatten(1, 2), self.codebook_size)
            quantized, codes = (side.unflatten(1, cells.shape[1:3]) for side in (quantized, codes))
            out = self.project_out(quantized).movedim(-1, 1)
        return Quantized(out, codes.long(), loss if self.training else loss.new_zeros(()))

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, height, width) int64 -> latents: (batch, dim, height, width)."""
        check_range(codes, self.codebook_size)
        return self.project_out(
            self.sim_vq.code_transform(self.sim_vq.frozen_codebook[codes])
        ).movedim(-1, 1)


class RVQ(nn.Module):
    """Several codes a cell, each the nearest neighbour of what those before it left over (RQ-VAE,
    arXiv:2203.01941).

    The codes of a cell stand side by side in the grid, coarse to fine: a generator sees
    `codes_per_cell` times as many columns and needs no change. Each depth has a codebook of its
    own, by averages as in VQ, with Euclidean distance.
    """

    remedy = "take fewer codes or codes_per_cell, or a lower codebook_dim"

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: NumCodes = 256,
        codes_per_cell: Annotated[int, Ge(2), Le(1000)] = 2,
        codebook_dim: Size = 16,
        decay: Share = 0.99,
        commitment: Weight = 0.25,
        dead_below: Share = 0.15,
    ) -> None:
        super().__init__()
        if codes_per_cell < 2:
            raise ValueError(
                f"rvq writes 2 or more codes_per_cell, not {codes_per_cell}: vq writes one"
            )
        self.codebook_size, self.codes_per_cell = codebook_size, codes_per_cell
        self.project_in = nn.Linear(dim, codebook_dim)
        self.project_out = nn.Linear(codebook_dim, dim)
        self.depths = nn.ModuleList(
            vqp.VectorQuantize(
                dim=codebook_dim,
                codebook_size=codebook_size,
                decay=decay,
                commitment_weight=commitment,
                threshold_ema_dead_code=dead_below,
                sync_codebook=is_distributed(),
            )
            for _ in range(codes_per_cell)
        )
        self.restarts = [_Restarts(dead_below) for _ in self.depths]
        for vq in self.depths:
            _without_waiting(vq)  # type: ignore[arg-type]
            _start_from_data(vq)  # type: ignore[arg-type]

    def forget(self) -> None:
        """The parts of a step that is given up."""
        for restarts in self.restarts:
            restarts.cells = 0

    def forward(self, latents: Tensor, accumulate: bool = False) -> Quantized:
        """latents: (batch, dim, height, width) -> Quantized.

        `accumulate`: more of this step is to come.
        """
        height = latents.shape[-2]
        with torch.autocast(latents.device.type, enabled=False):
            wanted = self.project_in(rearrange(latents.float(), "b d h w -> b (h w) d"))
            rest, loss, found = wanted, wanted.new_zeros(()), []
            for vq, restarts in zip(self.depths, self.restarts, strict=True):
                if self.training:
                    restarts.expect(vq, rest.shape[:-1].numel(), accumulate)
                quantized, codes, cost = _nearest(
                    vq, rest, self.codebook_size, accum_ema_update=accumulate
                )
                rest, loss = rest - quantized.detach(), loss + cost
                found.append(codes)
            out = self.project_out(wanted - rest.detach())
        codes = rearrange(torch.stack(found, -1), "b (h w) q -> b h (w q)", h=height)
        return Quantized(rearrange(out, "b (h w) d -> b d h w", h=height), codes, loss)

    def lookup(self, codes: Tensor) -> Tensor:
        """codes: (batch, h, w * codes_per_cell) int64 -> latents: (batch, dim, h, w)."""
        check_range(codes, self.codebook_size)
        parts = rearrange(codes, "b h (w q) -> q b h w", q=self.codes_per_cell)
        found = [vq.codebook[part] for vq, part in zip(self.depths, parts, strict=True)]  # type: ignore[index]
        return self.project_out(torch.stack(found).sum(0)).movedim(-1, 1)
