"""MaskGIT's VQGAN in PyTorch, as TiTok publishes it (arXiv:2202.04200; Apache-2.0)."""

from __future__ import annotations

from maskgit.importing.convolutional import RESOLUTION, canonical, resolution_of, vqgan_options
from maskgit.importing.reading import Foreign
from maskgit.importing.system import Imported, Published, Sizes, System, Tensors

NET = {"shortcut": "output", "downsampling": "pool", "unit_range": True}
"""What no tensor says of this net."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    names = "encoder.down.0.block.0.norm1.weight", "encoder.mid.0.norm1.weight"
    return all(name in tensors for name in names)


def read(foreign: Foreign, sizes: Sizes, resolution: int = RESOLUTION) -> Imported:
    """A tokenizer; resolution: of the images that it is meant for, unless `sizes` says it."""
    ours, side = canonical(foreign.tensors), resolution_of(sizes, resolution)
    return Imported("tokenizer", vqgan_options(ours, sizes, image_size=side, **NET), ours)


SYSTEM = System(
    "MaskGIT-VQGAN",
    "https://github.com/bytedance/1d-tokenizer",
    "Apache-2.0",
    (
        Published(
            "fun-research/TiTok",
            "maskgit-vqgan-imagenet-f16-256.bin",
            "tokenizer, 1,024 codes, f16",
            2.28,
        ),
    ),
    knows,
    read,
)
