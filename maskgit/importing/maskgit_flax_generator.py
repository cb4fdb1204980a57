"""Generators of the official MaskGIT (arXiv:2202.04200; Apache-2.0), checkpoints of flax."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskgit.importing.blocks import codes_and_classes
from maskgit.importing.reading import Foreign
from maskgit.importing.system import (
    Imported,
    Published,
    Sizes,
    Tensors,
    number_of,
    renamed,
    shape_of,
    whole_root,
)

RULES = [
    (r"^params\.", ""),
    (r"\.(scale|kernel)$", ".weight"),
    (r"^Embed_0\.embeddings_ln\.", "first_norm."),
    (r"^Embed_0\.(word|position)_embeddings\.embedding$", r"\1s"),
    (r"^TransformerLayer_(\d+)\.", r"blocks.\1."),
    (r"\.Attention_0\.self_attention\.", "."),
    (r"\.out\.", ".to_out."),
    (r"\.Attention_0\.attention_output_ln\.", ".norm1."),
    (r"\.Mlp_0\.intermediate_output\.", ".w1."),
    (r"\.Mlp_0\.layer_output\.", ".w2."),
    (r"\.Mlp_0\.layer_output_ln\.", ".norm2."),
    (r"^MlmLayer_0\.mlm_dense\.", "last."),
    (r"^MlmLayer_0\.mlm_ln\.", "last_norm."),
    (r"^MlmLayer_0\.mlm_bias\.bias$", "bias"),
]
SIDES = ("query", "key", "value")
URL = "https://storage.googleapis.com/maskgit-public/checkpoints"
FILES = (
    Published(URL, "maskgit_imagenet256_checkpoint", "generator, 256 px", 6.06),
    Published(URL, "maskgit_imagenet512_checkpoint", "generator, 512 px", 7.32),
)
SAMPLER: Mapping[str, Any] = {
    "name": "confidence",
    "steps": 8,
    "schedule": "cosine",
    "choice_temperature": 4.5,
}
"""Of the paper's Table 1, for 256 px: 512 px take 12 rounds. There is no guidance, which needs a
label for none."""
STEPS_512 = 12


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    return any(
        re.fullmatch(r"(params\.)?Embed_0\.word_embeddings\.embedding", name) for name in tensors
    )


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A generator. Its one table holds the codes, the classes and the mask token; its maps are
    [in, out], those of heads [in, heads, width] and [heads, width, out]."""
    ours = renamed(foreign.tensors, RULES)
    rows, dim = shape_of(ours, "words", 2)
    codes, classes = codes_and_classes(sizes, rows, 1, "num_class")
    _check(ours, "bias", (rows,))
    table, bias = ours.pop("words"), ours.pop("bias")
    heads = shape_of(ours, "blocks.0.query.weight", 3)
    depth = number_of(ours, "blocks.")
    for number in range(depth):
        _attention(ours, f"blocks.{number}.", heads)
    for name in [name for name in ours if name.endswith(("w1.weight", "w2.weight", "last.weight"))]:
        shape_of(ours, name, 2)
        ours[name] = ours[name].T
    ours["codes.weight"] = table[[*range(codes), rows - 1]]
    ours["labels.weight"] = table[codes : codes + classes]
    ours["to_logits.weight"], ours["to_logits.bias"] = table[:codes], bias[:codes]
    side = whole_root(
        shape_of(ours, "positions", 2)[0] - 1, "its positions, but that of the class,"
    )
    model = {
        "name": "maskgit_flax",
        "codebook_size": codes,
        "grid": [side, side],
        "num_classes": classes,
        "dim": dim,
        "depth": depth,
        "heads": heads[1],
        "hidden": shape_of(ours, "blocks.0.w1.weight")[0],
    }
    return Imported("maskgit", model, ours)


def _attention(ours: dict[str, Tensor], block: str, heads: tuple[int, ...]) -> None:
    """Queries, keys and values as one map, and the map after them, without an axis of heads.

    heads: (width, heads, width of each). ValueError if one is of another shape.
    """
    for part, wanted in (("weight", heads), ("bias", heads[1:])):
        names = [f"{block}{side}.{part}" for side in SIDES]
        for name in names:
            _check(ours, name, wanted)
        sides = [ours.pop(name) for name in names]
        flat = [side.flatten(-2).T if part == "weight" else side.flatten() for side in sides]
        ours[f"{block}to_qkv.{part}"] = torch.cat(flat)
    _check(ours, f"{block}to_out.weight", (*heads[1:], heads[0]))
    ours[f"{block}to_out.weight"] = ours[f"{block}to_out.weight"].flatten(0, 1).T


def _check(ours: Tensors, name: str, wanted: tuple[int, ...]) -> None:
    if shape_of(ours, name) != wanted:
        raise ValueError(f"its {name} is {shape_of(ours, name)}, not {wanted}")
