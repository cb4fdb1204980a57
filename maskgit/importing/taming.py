"""VQGAN of taming-transformers (arXiv:2012.09841; MIT)."""

from __future__ import annotations

from maskgit.importing.convolutional import canonical, vqgan_options
from maskgit.importing.reading import Foreign
from maskgit.importing.system import Imported, Published, Sizes, System, Tensors

OTHERS = {
    "quantize.embed.weight": "a Gumbel quantiser",
    "quantize.used": "codes that are numbered anew (quantize.used)",
}
"""Tensors of variants that are not read, and what they have."""


def has_layout(tensors: Tensors) -> bool:
    """Whether the names are this project's, as those of IBQ are, too."""
    names = "encoder.down.0.block.0.norm1.weight", "encoder.mid.attn_1.q.weight"
    return all(name in tensors for name in names) and any(
        name.startswith("quantize.") for name in tensors
    )


def knows(tensors: Tensors) -> bool:
    """Whether these are its names, without an average that IBQ has."""
    return has_layout(tensors) and not any(name.startswith("model_ema.") for name in tensors)


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer. ValueError for variants with another quantiser."""
    for name, what in OTHERS.items():
        if name in foreign.tensors:
            raise ValueError(f"it has {what}, which is not read: plain VQGANs are")
    ours = canonical(foreign.tensors)
    return Imported("tokenizer", vqgan_options(ours, sizes), ours)


SYSTEM = System(
    "VQGAN",
    "https://github.com/CompVis/taming-transformers",
    "MIT",
    (
        Published(
            "https://heibox.uni-heidelberg.de/d/8088892a516d4e3baf92",
            "ckpts/last.ckpt",
            "tokenizer, 1,024 codes, f16",
            8.0,
        ),
        Published(
            "https://heibox.uni-heidelberg.de/d/a7530b09fed84f80a887",
            "ckpts/last.ckpt",
            "tokenizer, 16,384 codes, f16",
            4.9,
        ),
        Published(
            "llvictorll/Maskgit-pytorch",
            "pretrained_maskgit/VQGAN/last.ckpt",
            "tokenizer, 1,024 codes, f16",
        ),
    ),
    knows,
    read,
)
