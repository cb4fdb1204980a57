"""Dead codes are restarted from a batch: by the library, or where nobody waits for a device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vqgan.devices import answers_at_once
from vqgan.quantizers.quantized import is_distributed


def expire(codebook: Any, samples: Tensor, seq_mask: Tensor | None = None) -> None:
    """In place of the library's `expire_codes_`, which it is where values may be asked for.

    codebook: the library's, of one head; samples: (1, cells, dim).
    """
    if answers_at_once(samples.device):
        type(codebook).expire_codes_(codebook, samples, seq_mask)
    elif codebook.has_dead_code_replacement and codebook.training:
        restart(codebook, samples[0])


@torch.no_grad()
def restart(codebook: Any, samples: Tensor) -> None:
    """Put samples, (cells, dim), at the places of dead codes; no shape depends on how many are.

    The dead take turns at random: the n-th gets a sample of process n % world, and no sample is
    taken twice; with more dead codes than samples of all processes, the rest waits.
    """
    world, rank = (dist.get_world_size(), dist.get_rank()) if is_distributed() else (1, 0)
    sizes, codes, sums = (
        side[0] for side in (codebook.cluster_size, codebook.embed, codebook.embed_avg)
    )
    dead = sizes < codebook.threshold_ema_dead_code
    order = torch.rand(len(sizes), device=sizes.device)
    if world > 1:
        dist.broadcast(order, 0)
    turn = (order + ~dead).argsort().argsort()  # the dead first
    shuffled = torch.randperm(len(samples), device=samples.device)
    taken = codebook.transform_input(samples)[
        shuffled[(turn // world).clamp(max=len(samples) - 1)]
    ].to(codes)
    if world > 1:
        taken = taken * (turn % world == rank)[:, None]
        dist.all_reduce(taken)
    new = dead & (turn < len(samples) * world)
    weight = codebook.reset_cluster_size
    codes.copy_(torch.where(new[:, None], taken, codes))
    sums.copy_(torch.where(new[:, None], taken * weight, sums))
    sizes.masked_fill_(new, weight)
