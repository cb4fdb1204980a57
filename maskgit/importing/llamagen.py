"""LlamaGen's VQ tokenizers (arXiv:2406.06525; MIT), and GEAR's of the same layout
(arXiv:2606.32039; Apache-2.0)."""

from __future__ import annotations

import re

from maskgit.importing.convolutional import vqgan_options
from maskgit.importing.reading import Foreign
from maskgit.importing.system import (
    Imported,
    Published,
    Sizes,
    System,
    Tensors,
    number_of,
    renamed,
)

RULES = [
    (r"^(quant_conv|encoder)\.", r"encoder.\1."),
    (r"^(post_quant_conv|decoder)\.", r"decoder.\1."),
    (r"^(encoder|decoder)\.\1\.", r"\1.net."),
    (r"^encoder\.net\.conv_blocks\.(\d+)\.downsample\.", r"encoder.net.down.\1."),
    (r"\.conv_blocks\.(\d+)\.res\.", r".level.\1.block."),
    (r"\.conv_blocks\.(\d+)\.attn\.", r".level.\1.attn."),
    (r"^quantize\.", "quantizer."),
]


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    return "encoder.conv_blocks.0.res.0.norm1.weight" in tensors


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer; its decoder's level 0 is the coarsest, ours the finest."""
    tensors = {k: v for k, v in foreign.tensors.items() if k != "quantize.codebook_used"}
    last = number_of(tensors, "decoder.conv_blocks.") - 1

    def turned(name: str) -> str:
        name = re.sub(
            r"^decoder\.conv_blocks\.(\d+)\.upsample\.",
            lambda found: f"decoder.up.{last - int(found[1]) - 1}.",
            name,
        )
        return re.sub(
            r"^decoder\.conv_blocks\.(\d+)\.",
            lambda found: f"decoder.conv_blocks.{last - int(found[1])}.",
            name,
        )

    ours = renamed({turned(name): tensor for name, tensor in tensors.items()}, RULES)
    return Imported("tokenizer", vqgan_options(ours, sizes, distance="cosine"), ours)


SYSTEM = System(
    "LlamaGen",
    "https://github.com/FoundationVision/LlamaGen",
    "MIT (GEAR-VQ: Apache-2.0)",
    (
        Published(
            "FoundationVision/LlamaGen", "vq_ds16_c2i.pt", "tokenizer, 16,384 codes, f16", 2.19
        ),
        Published(
            "FoundationVision/LlamaGen", "vq_ds8_c2i.pt", "tokenizer, 16,384 codes, f8", 0.59
        ),
        Published("peizesun/llamagen_t2i", "vq_ds16_t2i.pt", "tokenizer, 16,384 codes, f16"),
        Published("BinLin203/GEAR-VQ", "gear-vq.pt", "tokenizer, 16,384 codes, f16", 1.64),
    ),
    knows,
    read,
)
