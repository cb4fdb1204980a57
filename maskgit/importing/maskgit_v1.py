"""Generators of valeoai's Maskgit-pytorch, version 1 (arXiv:2310.14400; MIT), of taming's codes."""

from __future__ import annotations

from maskgit.importing.blocks import BLOCKS, codes_and_classes, positions_of
from maskgit.importing.reading import Foreign
from maskgit.importing.system import (
    Drawn,
    Imported,
    Published,
    Sizes,
    System,
    Tensors,
    number_of,
    renamed,
    shape_of,
    whole_root,
)

LAYERS = {"0": "0", "2": "1", "4": "3", "6": "4"}
"""Of the two stacks outside the blocks: where there is dropout in the files' own numbering."""
RULES = [
    *((rf"^(first|last)_layer\.{their}\.", rf"\1.{our}.") for their, our in LAYERS.items()),
    *BLOCKS,
]
HEADS = {(768, 24): 16, (1024, 32): 16, (1024, 48): 16}
"""Of the published widths and depths: no tensor says them."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    return {"tok_emb.weight", "bias", "first_layer.6.weight"} <= tensors.keys()


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A generator. Its one table holds the codes, the mask token, the classes and "no class"."""
    tensors = dict(foreign.tensors)
    rows, dim = shape_of(tensors, "tok_emb.weight", 2)
    table, bias = tensors.pop("tok_emb.weight"), tensors.pop("bias")
    codes, classes = codes_and_classes(sizes, rows, 2, "nclass")
    cells = positions_of(tensors, dim) - 1
    if bias.shape != (cells + 1, rows):
        raise ValueError(f"its bias is {tuple(bias.shape)}, not {(cells + 1, rows)}")
    ours = renamed(tensors, RULES)
    ours["positions"] = ours.pop("pos_emb")[0]
    ours["codes.weight"], ours["labels.weight"] = table[: codes + 1], table[codes + 1 :]
    ours["to_logits.weight"] = table[None, :codes]
    ours["to_logits.bias"] = bias[None, :cells, :codes]
    depth = number_of(ours, "blocks.")
    side = whole_root(cells, "its positions, but that of the class,")
    model = {
        "name": "maskgit_v1",
        "codebook_size": codes,
        "grid": [side, side],
        "num_classes": classes,
        "dim": dim,
        "depth": depth,
        "heads": sizes.whole("heads", HEADS.get((dim, depth))),
        "hidden": shape_of(ours, "blocks.0.w1.weight", 2)[0],
    }
    return Imported("maskgit", model, ours)


def _drawn(steps: int, temperature: float, scale: float) -> Drawn:
    """Their "arccos" says how many codes a round reveals: within 1 % what our cosine leaves."""
    sampler = {"name": "confidence", "steps": steps, "schedule": "cosine"}
    guidance = {"scale": 1 + scale, "schedule": "linear"}
    return {**sampler, "choice_temperature": temperature}, guidance


REPO = "llvictorll/Maskgit-pytorch"
FOLDER = "pretrained_maskgit/MaskGIT"
SYSTEM = System(
    "Maskgit-pytorch v1",
    "https://github.com/valeoai/Maskgit-pytorch",
    "MIT",
    (
        Published(REPO, f"{FOLDER}/MaskGIT_ImageNet_256.pth", "generator, 256 px", 6.80),
        Published(REPO, f"{FOLDER}/MaskGIT_ImageNet_512.pth", "generator, 512 px", 7.26),
    ),
    knows,
    read,
    tokenizer="taming last.ckpt",
    # of images of 256 and of 512 px
    settings=lambda model: _drawn(15, 7.0, 2.8) if model["grid"][0] == 32 else _drawn(8, 4.5, 3.0),
)
