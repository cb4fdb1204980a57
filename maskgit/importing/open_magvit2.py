"""Open-MAGVIT2's tokenizers (arXiv:2409.04410; Apache-2.0)."""

from __future__ import annotations

from maskgit.importing.convolutional import canonical, encoder_options, resolution_of
from maskgit.importing.reading import Foreign
from maskgit.importing.system import Imported, Published, Sizes, System, Tensors

OF_128 = 4
"""Levels of the published net for 128 pixels; those for 256 have one more."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    names = "encoder.mid_block.0.norm1.weight", "decoder.adaptive.0.gamma.weight"
    return all(name in tensors for name in names)


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer."""
    ours = canonical(foreign.tensors)
    options = encoder_options(ours, sizes)
    side = resolution_of(sizes, 128 if len(options["multipliers"]) == OF_128 else 256)
    return Imported("tokenizer", {"name": "magvit2", **options, "image_size": side}, ours)


REPO = "TencentARC/Open-MAGVIT2-Tokenizer"
SYSTEM = System(
    "Open-MAGVIT2",
    "https://github.com/TencentARC/SEED-Voken",
    "Apache-2.0",
    (
        Published(
            f"{REPO}-256-resolution", "imagenet_256_L.ckpt", "tokenizer, 2^18 codes, f16", 1.17
        ),
        Published(
            f"{REPO}-128-resolution", "imagenet_128_L.ckpt", "tokenizer, 2^18 codes, f8", 1.18
        ),
        Published(
            f"{REPO}-16384-Pretrain", "pretrain256_16384.ckpt", "tokenizer, 2^14 codes, f16", 2.55
        ),
        Published(
            f"{REPO}-262144-Pretrain", "pretrain256_262144.ckpt", "tokenizer, 2^18 codes, f16", 1.67
        ),
        Published("BinLin203/GEAR-LFQ", "gear-lfq.pt", "tokenizer, 2^14 codes, f16", 2.13),
    ),
    knows,
    read,
)
