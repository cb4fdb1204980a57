"""Halton-MaskGIT's generators (arXiv:2503.17076; MIT), of LlamaGen's f16 codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

RULES = [
    (r"^cls_emb\.", "labels."),
    (r"^tok_emb\.", "codes."),
    (r"^pos_emb\.weight$", "positions"),
    (r"^reg_tokens\.weight$", "registers"),
    (r"^head\.", "to_logits."),
    (r"^transformer\.layers\.", "blocks."),
    (r"^last_norm\.norm_final\.", "norm_"),
    (r"^last_norm\.mlp\.1\.", "last_factors."),
    (r"\.mlp\.1\.", ".to_factors."),
    (r"\.(attn|ff)\.", "."),
    (r"\.(ln[12])\.weight$", r".\1"),
]
HEADS = {(384, 6): 6, (512, 12): 6, (768, 12): 12, (1024, 24): 16, (1152, 28): 16}
"""Of the published widths and depths: no tensor says them."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names."""
    return {"reg_tokens.weight", "last_norm.mlp.1.weight"} <= tensors.keys()


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A generator. ValueError for one whose codes are folded (`proj` > 1): none is published."""
    if "in_proj.weight" in foreign.tensors:
        raise ValueError("it folds its codes (proj > 1), which no published file does")
    ours = renamed(foreign.tensors, RULES)
    rows, dim = shape_of(ours, "codes.weight")
    for name in ("to_logits.weight", "to_logits.bias"):  # without that of the mask token
        shape_of(ours, name)
        ours[name] = ours[name][: rows - 1]
    depth = number_of(ours, "blocks.")
    side = whole_root(shape_of(ours, "positions")[0], "its positions")
    model = {
        "name": "halton",
        "codebook_size": rows - 1,
        "grid": [side, side],
        "num_classes": shape_of(ours, "labels.weight")[0] - 1,
        "dim": dim,
        "depth": depth,
        "heads": sizes.whole("heads", HEADS.get((dim, depth))),
        "hidden": shape_of(ours, "blocks.0.w1.weight")[0],
        "registers": shape_of(ours, "registers")[0],
    }
    return Imported("maskgit", model, ours)


REPO = "llvictorll/Halton-MaskGIT"
PUBLISHED = {
    (256, "tiny"): 10.2, (256, "small"): 6.40, (256, "base"): 4.17,
    (384, "small"): 6.11, (384, "base"): 4.15, (384, "large"): 2.59,
}  # fmt: skip
"""FIDs, as the README of the project has them."""
W = {384: 1.5, 512: 1.0, 768: 0.7, 1024: 0.5}
"""What it guides nets of these widths by, (1 + w) c - w u, for those."""


def drawn(model: Mapping[str, Any]) -> Drawn:
    """The settings of a net, of the largest for one of no published width; its logits are
    multiplied by 1 to 1.2."""
    sampler = {"name": "halton", "steps": 32, "schedule": "arccos", "temperature": [1.0, 0.8333]}
    return sampler, {"scale": 1 + W.get(model["dim"], 0.5)}


SYSTEM = System(
    "Halton-MaskGIT",
    "https://github.com/valeoai/Halton-MaskGIT",
    "MIT",
    tuple(
        Published(REPO, f"ImageNet_{size}_{name}.pth", f"generator, {size} px", fid)
        for (size, name), fid in PUBLISHED.items()
    ),
    knows,
    read,
    tokenizer="llamagen hub:FoundationVision/LlamaGen/vq_ds16_c2i.pt",
    settings=drawn,
)
