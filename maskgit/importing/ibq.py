"""IBQ's tokenizers (arXiv:2412.02692; Apache-2.0): taming's net, whose code is the row with the
greatest inner product."""

from __future__ import annotations

from maskgit.importing import taming
from maskgit.importing.convolutional import canonical, vqgan_options
from maskgit.importing.reading import Foreign
from maskgit.importing.system import Imported, Published, Sizes, System, Tensors


def knows(tensors: Tensors) -> bool:
    """Whether these are its names, and averages have been there; without, it may be taming's."""
    return taming.has_layout(tensors) and not taming.knows(tensors)


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer."""
    ours = canonical(foreign.tensors)
    return Imported("tokenizer", vqgan_options(ours, sizes, distance="dot"), ours)


REPO = "TencentARC/IBQ-Tokenizer"
PUBLISHED = {
    (f"{REPO}-1024", "imagenet256_1024.ckpt"): (1024, 2.24),
    (f"{REPO}-8192", "imagenet256_8192.ckpt"): (8192, 1.87),
    (f"{REPO}-16384", "imagenet256_16384.ckpt"): (16384, 1.37),
    (f"{REPO}-262144", "imagenet256_262144.ckpt"): (262144, 1.00),
    (f"{REPO}-16384-Pretrain", "IBQ_pretrain_16384.ckpt"): (16384, 2.06),
    (f"{REPO}-262144-Pretrain", "IBQ_pretrain_262144.ckpt"): (262144, 1.53),
    ("BinLin203/GEAR-IBQ", "gear-ibq.pt"): (16384, 1.72),
}
"""(repository, file) -> (codes, rFID on ImageNet)."""
SYSTEM = System(
    "IBQ",
    "https://github.com/TencentARC/SEED-Voken",
    "Apache-2.0",
    tuple(
        Published(repo, file, f"tokenizer, {codes:,} codes, f16", fid)
        for (repo, file), (codes, fid) in PUBLISHED.items()
    ),
    knows,
    read,
    like="taming",
)
