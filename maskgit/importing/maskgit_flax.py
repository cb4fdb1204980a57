"""The official MaskGIT (arXiv:2202.04200; Apache-2.0): flax's names for the net of maskgit_vqgan,
and its generator."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

from maskgit.importing import maskgit_flax_generator as generator
from maskgit.importing import maskgit_vqgan
from maskgit.importing.reading import Foreign
from maskgit.importing.system import (
    Imported,
    Published,
    Rules,
    Sizes,
    System,
    Tensors,
    number_of,
    renamed,
)

PARTS: Rules = [
    (r"\.scale$", ".weight"),
    (r"\.kernel$", ".weight"),
    (r"\.GroupNorm_0\.", ".norm1."),
    (r"\.GroupNorm_1\.", ".norm2."),
    (r"\.Conv_0\.", ".conv1."),
    (r"\.Conv_1\.", ".conv2."),
    (r"\.Conv_2\.", ".nin_shortcut."),
]
"""Of a ResBlock."""


def is_tokenizer(tensors: Tensors) -> bool:
    """Whether the names are those of the tokenizer."""
    return {"encoder.ResBlock_0.Conv_0.kernel", "quantizer.codebook"} <= tensors.keys()


def read_tokenizer(foreign: Foreign, sizes: Sizes) -> Imported:
    """Under the names of maskgit_vqgan; ValueError if its blocks fill no whole levels."""
    tensors = foreign.tensors
    levels = number_of(tensors, "decoder.Conv_") - 1
    blocks = number_of(tensors, "encoder.ResBlock_")
    if levels < 1 or blocks % (levels + 1) or number_of(tensors, "decoder.ResBlock_") != blocks:
        raise ValueError(f"its {blocks} blocks do not fill {levels} levels and the middle")
    rules = _rules(levels, blocks // (levels + 1))
    theirs = {name: _turned(tensor) for name, tensor in renamed(tensors, rules).items()}
    side = 512 if "imagenet512" in foreign.path.name else 256
    return maskgit_vqgan.read(foreign._replace(tensors=theirs), sizes, side)


def _rules(levels: int, count: int) -> Rules:
    """From the numbers of flax, in the order in which parts are made; count: blocks a level."""

    def down(found: re.Match[str]) -> str:
        level, block = divmod(int(found[1]), count)
        return f"encoder.{'mid' if level == levels else f'down.{level}.block'}.{block}."

    def up(found: re.Match[str]) -> str:
        level, block = divmod(int(found[1]), count)
        return f"decoder.{f'up.{levels - level}.block' if level else 'mid'}.{block}."

    def grown(found: re.Match[str]) -> str:
        return f"decoder.up.{levels - int(found[1])}.upsample_conv."

    return [
        (r"^(encoder|decoder)\.Conv_0\.", r"\1.conv_in."),
        (r"^encoder\.Conv_1\.", "encoder.conv_out."),
        (rf"^decoder\.Conv_{levels}\.", "decoder.conv_out."),
        (r"^decoder\.Conv_(\d+)\.", grown),
        (r"^(encoder|decoder)\.GroupNorm_0\.", r"\1.norm_out."),
        (r"^encoder\.ResBlock_(\d+)\.", down),
        (r"^decoder\.ResBlock_(\d+)\.", up),
        (r"^quantizer\.codebook$", "quantize.embedding.weight"),
        *PARTS,
    ]


def _turned(tensor: Tensor) -> Tensor:
    """Kernels (height, width, in, out) -> (out, in, height, width)."""
    return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor


HALVES: list[tuple[Callable[[Tensors], bool], Callable[[Foreign, Sizes], Imported]]] = [
    (is_tokenizer, read_tokenizer),
    (generator.knows, generator.read),
]
"""What the names are of, and how it is read."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    return any(known(tensors) for known, _ in HALVES)


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer or a generator."""
    return next(each for known, each in HALVES if known(foreign.tensors))(foreign, sizes)


FOLDER = "https://storage.googleapis.com/maskgit-public/checkpoints"
SYSTEM = System(
    "MaskGIT",
    "https://github.com/google-research/maskgit",
    "Apache-2.0",
    (
        Published(FOLDER, "tokenizer_imagenet256_checkpoint", "tokenizer, 1,024 codes, f16", 2.28),
        Published(FOLDER, "tokenizer_imagenet512_checkpoint", "tokenizer, 1,024 codes, f16", 1.97),
        *generator.FILES,
    ),
    knows,
    read,
    tokenizer="maskgit_flax tokenizer_imagenet256_checkpoint",
    settings=lambda model: (
        {**generator.SAMPLER, "steps": generator.STEPS_512}
        if model["grid"][0] == 32
        else generator.SAMPLER,
        {"scale": 1.0},
    ),
)
