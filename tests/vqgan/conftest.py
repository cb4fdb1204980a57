"""What several tests of this wing share."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vqgan.quantizers import QUANTIZERS

DIM, GIB = 8, 2**30


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


class Sizes(TorchDispatchMode):
    """The most bytes that tensors take together, and the most elements of one."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.peak, self.largest = set(), 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
                self.add(tensor.untyped_storage())
        return found

    def add(self, storage):
        if (key := storage._cdata) in self.live:
            return
        self.live.add(key)
        self.now += (size := storage.nbytes())
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.drop, key, size)

    def drop(self, key, size):
        self.live.discard(key)
        self.now -= size


def to_fake(model, device):
    """Its weights to fake ones of a device, as they lie in memory."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = torch.nn.Parameter(
                    torch.empty_like(weight, device="cuda")
                )
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty_like(value, device=device)
