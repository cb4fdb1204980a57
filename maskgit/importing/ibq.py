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
SYSTEM = System(
    "IBQ",
    "https://github.com/TencentARC/SEED-Voken",
    "Apache-2.0",
    tuple(
        Published(
            f"{REPO}-{codes}", f"imagenet256_{codes}.ckpt", f"tokenizer, {codes:,} codes, f16", fid
        )
        for codes, fid in {1024: 2.24, 8192: 1.87, 16384: 1.37, 262144: 1.00}.items()
    ),
    knows,
    read,
    like="taming",
)
