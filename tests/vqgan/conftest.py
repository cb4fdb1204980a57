"""What several tests of this wing share."""

import torch

from vqgan.quantizers import QUANTIZERS

DIM = 8


SMALL = {"vq": {"codebook_size": 16, "codebook_dim": 4}, "fsq": {"levels": [4, 4]}, "lfq": {"codebook_size": 16},
         "bsq": {"codebook_size": 16}, "sim_vq": {"codebook_size": 16, "codebook_dim": 4},
         "rvq": {"codebook_size": 16, "codebook_dim": 4}}  # fmt: skip


def make(name):
    torch.manual_seed(0)
    return QUANTIZERS[name](DIM, **SMALL.get(name, {}))


def latents(batch=2, height=3, width=5, scale=1.0):
    return scale * torch.randn(
        batch, DIM, height, width, generator=torch.Generator().manual_seed(1)
    )


def trained(name):
    """After a few training steps, so that a codebook has seen data."""
    quantizer = make(name).train()
    for _ in range(5):
        quantizer(latents(16, scale=3.0))
    return quantizer.eval()
