"""MaskBit's tokenizers and generators (Weber et al., arXiv:2409.16211; Apache-2.0)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from maskgit.importing.blocks import BLOCKS, positions_of
from maskgit.importing.convolutional import canonical, vqgan_options
from maskgit.importing.reading import Foreign
from maskgit.importing.system import (
    Drawn,
    Imported,
    Published,
    Rules,
    Sizes,
    System,
    Tensors,
    number_of,
    renamed,
    shape_of,
    whole_root,
)

FIRST_BLOCK = "encoder.down.0.res_blocks.0.norm1.weight"
BUFFERS = {"quantize.bits_to_indices", "quantize.codebook", "bits_to_indices"}
"""What follows from the number of bits."""
PARTS: Rules = [
    (r"\.res_blocks\.", ".block."),
    (r"\.mid\.block\.", ".mid."),
    (r"\.down_conv\.", ".downsample.conv."),
]
GENERATOR: Rules = [
    (r"^(input_proj|token_emb)\.", "codes.proj."),
    (r"^tok_emb_list\.", "codes.tables."),
    (r"^class_emb\.", "labels."),
    (r"^first_layer\.0\.", "first_norm."),
    (r"^norm_after_transformer\.", "norm."),
    (r"^last_layer\.0\.", "last."),
    (r"^last_layer\.2\.", "last_norm."),
    *BLOCKS,
]
HEADS = {(1024, 24): 16}
"""Of the published width and depth: no tensor says them."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    codes = {"input_proj.weight", "token_emb.weight", "tok_emb_list.0.weight"} & tensors.keys()
    return FIRST_BLOCK in tensors or bool(codes and "class_emb.weight" in tensors)


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer or a generator."""
    tensors = {name: value for name, value in foreign.tensors.items() if name not in BUFFERS}
    if FIRST_BLOCK not in tensors:
        return _generator(tensors, sizes)
    is_free = sizes.given.get("quantizer_type") == "lookup-free" or BUFFERS & foreign.tensors.keys()
    if not is_free and "quantize.embedding.weight" not in tensors:
        raise ValueError("it lacks quantize.embedding.weight, and quantize.codebook of bits")
    return _tokenizer(tensors, sizes)


def _tokenizer(tensors: Tensors, sizes: Sizes) -> Imported:
    """One of bits, or of a codebook (VQGAN+, and MaskGIT's, whose levels are counted from the
    finest)."""
    last = number_of(tensors, "decoder.up.") - 1
    is_coarsest_first = f"decoder.up.{last}.upsample_conv.weight" not in tensors

    def level(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"decoder.up.{last - number if is_coarsest_first else number}."

    ours = canonical(renamed(tensors, [(r"^decoder\.up\.(\d+)\.", level), *PARTS]))
    has_convolutions = "encoder.net.down.0.conv.weight" in ours
    own: dict[str, Any] = {"shortcut": "output", "unit_range": True}
    own["downsampling"] = "corner" if has_convolutions else "pool"
    if "quantizer.embedding.weight" not in ours:
        bits = shape_of(ours, "encoder.net.conv_out.weight", 4)[0]
        groups = sizes.whole("codebook_splits", 1 if bits % 2 else 2)
        own |= {"distance": "signs", "codes_per_cell": groups}
    return Imported("tokenizer", vqgan_options(ours, sizes, **own), ours)


def _generator(tensors: Tensors, sizes: Sizes) -> Imported:
    """LFQBert, whose tokens are bits, or Bert, whose head is tied to its tables."""
    ours = renamed(tensors, GENERATOR)
    classes, dim = shape_of(ours, "labels.weight", 2)
    cells = positions_of(ours, dim) - 1
    ours["positions"] = ours.pop("pos_emb")[0]
    is_bits = "codes.proj.weight" in ours
    groups, codes = (_bits if is_bits else _tables)(ours, sizes)
    side = whole_root(cells, "its positions, but that of the class,")
    depth = number_of(ours, "blocks.")
    model = {
        "name": "maskbit",
        "codebook_size": codes,
        "grid": [side, side * groups],
        "num_classes": classes - 1,
        "codes_per_cell": groups,
        "dim": dim,
        "depth": depth,
        "heads": sizes.whole("heads", HEADS.get((dim, depth))),
        "hidden": shape_of(ours, "blocks.0.w1.weight", 2)[0],
        "embedding": "bits" if is_bits else "tables",
        "prenorm": "norm.weight" in ours,
    }
    return Imported("maskgit", model, ours)


def _bits(ours: dict[str, torch.Tensor], sizes: Sizes) -> tuple[int, int]:
    """The codes of a cell, and how many there are of each; the head is cut into theirs."""
    bits = shape_of(ours, "codes.proj.weight", 2)[1]
    rows, dim = shape_of(ours, "prediction_layer.weight", 2)
    fit = [n for n in range(1, bits + 1) if bits % n == 0 and n * 2 ** (bits // n) == rows]
    if not fit:
        raise ValueError(f"its head of {rows} rows is of no equal groups of its {bits} bits")
    groups = fit[0] if len(fit) == 1 else sizes.whole("codebook_splits")
    if groups not in fit:
        raise ValueError(f"its head of {rows} rows is not of {groups} groups of its {bits} bits")
    ours["to_logits.weight"] = ours.pop("prediction_layer.weight").view(groups, -1, dim)
    if shape_of(ours, "prediction_layer.bias") != (rows,):
        raise ValueError(f"its prediction_layer.bias does not have {rows} numbers")
    ours["to_logits.bias"] = ours.pop("prediction_layer.bias").view(groups, 1, -1)
    return groups, rows // groups


def _tables(ours: dict[str, torch.Tensor], sizes: Sizes) -> tuple[int, int]:
    """The same, where each has a table and each of its cells a bias."""
    groups = number_of(ours, "codes.tables.")
    codes = shape_of(ours, "codes.tables.0.weight", 2)[0] - 1
    names = (
        [f"codes.tables.{i}.weight" for i in range(groups)],
        [f"bias.{i}" for i in range(groups)],
    )
    for kind in names:
        if len({shape_of(ours, name) for name in kind}) > 1:
            raise ValueError(f"its {kind[0]}, {kind[-1]} differ in their shapes")
    ours["to_logits.weight"] = torch.stack([ours[name][:codes] for name in names[0]])
    ours["to_logits.bias"] = torch.stack([ours.pop(name) for name in names[1]])
    return groups, codes


def _repo(name: str, gives: str, fid: float) -> Published:
    return Published(f"markweber/{name}", f"{name}.bin", gives, fid)


def _bits_of(model: Mapping[str, Any]) -> int:
    """Of a cell of a generator."""
    return (model["codebook_size"].bit_length() - 1) * int(model["codes_per_cell"])


def _drawn(bits: int) -> Drawn:
    """What the project draws a generator with; of sizes that it has not, as that of 14 bits."""
    steps, temperature, scale, power = SETTINGS.get(bits, SETTINGS[14])
    sampler = {"name": "confidence", "steps": steps, "schedule": "arccos"}
    return (
        {**sampler, "choice_temperature": temperature},
        {"scale": 1 + scale, "schedule": {"name": "power_cosine", "power": power}},
    )


SETTINGS = {
    10: (64, 10.5, 6.4, 2.5),
    12: (64, 8.2, 7.1, 3.0),
    14: (256, 10.3, 5.8, 3.0),
    16: (64, 7.5, 6.5, 2.5),
    18: (64, 8.5, 5.7, 2.5),
}
"""Bits -> rounds, temperature, guidance (1 + w) c - w u and its power, of its configs."""
RECONSTRUCTION = {10: 1.76, 12: 1.52, 14: 1.37, 16: 1.29, 18: 1.16}
GENERATION = {10: 1.68, 12: 1.65, 14: 1.52, 16: 1.64, 18: 1.67}
"""FID by bits: of 64 rounds, for 14 bits of 256."""
SYSTEM = System(
    "MaskBit",
    "https://github.com/markweberdev/maskbit",
    "Apache-2.0",
    (
        *(
            _repo(f"maskbit_tokenizer_{bits}bit", f"tokenizer, {bits} bits, f16", fid)
            for bits, fid in RECONSTRUCTION.items()
        ),
        _repo("vqgan_plus_12bit", "tokenizer, 4,096 codes, f16", 1.39),
        _repo("maskgit_tokenizer", "tokenizer, 1,024 codes, f16", 1.96),
        *(
            _repo(f"maskbit_generator_{bits}bit", f"generator, {bits} bits, 256 px", fid)
            for bits, fid in GENERATION.items()
        ),
    ),
    knows,
    read,
    tokenizer="maskbit hub:markweber/maskbit_tokenizer_{}bit",
    size=_bits_of,
    settings=lambda model: _drawn(_bits_of(model)),
)
