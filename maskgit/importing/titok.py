"""TiTok's tokenizers and generators of codes in a row (arXiv:2406.07550; Apache-2.0)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskgit.importing.convolutional import groups_of
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

TOKENIZER = [
    (r"^latent_tokens$", "encoder.net.latents"),
    (r"^quantize\.", "quantizer."),
    (r"^pixel_decoder\.up\.(\d+)\.block\.", r"draw.net.level.\1.block."),
    (r"^pixel_decoder\.", "draw.net."),
    (r"^pixel_quantize\.", "draw.codes."),
    (r"^decoder\.conv_out\.", "draw.conv."),
    (r"^decoder\.ffn\.", "draw.ffn."),
    (r"^draw\.", "decoder.draw."),
    (r"^encoder\.conv_out\.", "encoder.to_codes."),
    (r"^encoder\.patch_embed\.", "encoder.patch."),
    (r"^decoder\.decoder_embed\.", "decoder.from_codes."),
    (r"^decoder\.mask_token$", "decoder.blank"),
    (r"^(encoder|decoder)\.(?!net\.|draw\.)", r"\1.net."),
    (r"\.class_embedding$", ".class_token"),
    (r"\.latent_token_positional_embedding$", ".latent_positions"),
    (r"\.positional_embedding$", ".positions"),
    (r"\.ln_pre\.", ".norm_in."),
    (r"\.ln_post\.", ".norm_out."),
    (r"\.transformer\.", ".layers."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".qkv."),
    (r"\.attn\.out_proj\.", ".proj."),
    (r"\.mlp\.c_fc\.", ".up."),
    (r"\.mlp\.c_proj\.", ".down."),
]
TWO_STAGES = [
    (r"\.draw\.ffn\.0\.", ".draw.codes.hidden."),
    (r"\.draw\.ffn\.2\.", ".draw.codes.logits."),
]
ONE_STAGE = [(r"\.draw\.ffn\.0\.", ".draw.fold.")]
BERT = [
    (r"^model\.lm_head\.", "to_logits."),
    (r"^model\.embeddings\.word_embeddings\.weight$", "rows"),
    (r"^model\.embeddings\.position_embeddings\.weight$", "places"),
    (r"^model\.embeddings\.LayerNorm\.", "norm."),
    (r"^model\.encoder\.layer\.", "blocks."),
    (r"\.attention\.self\.(q|k|v)(uery|ey|alue)\.", r".\1."),
    (r"\.attention\.output\.dense\.", ".to_out."),
    (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".w1."),
    (r"\.output\.dense\.", ".w2."),
    (r"\.output\.LayerNorm\.", ".norm2."),
]
UVIT = [
    (r"^lm_head\.", "to_logits."),
    (r"^embeddings\.weight$", "rows"),
    (r"^pos_embed$", "places"),
    (r"^(in|out)_blocks\.(\d+)\.", r"\1.\2."),
    (r"\.skip_linear\.", ".skip."),
    (r"\.(attn|mlp)\.", "."),
    (r"\.qkv\.", ".to_qkv."),
    (r"\.proj\.", ".to_out."),
    (r"\.fc([12])\.", r".w\1."),
]
HEADS = {
    "vit": {(512, 8): 8, (768, 12): 12, (1024, 24): 16},
    "titok_bert": {(768, 24): 16},
    "titok_uvit": {(1024, 20): 16},
}
"""Of the published widths and depths: no tensor says them."""
USE_L2_NORM = {(4096, 12): True, (8192, 64): False}
"""Of the published tables of codes and their dimensions."""


def knows(tensors: Tensors) -> bool:
    """Whether these are its names: a tokenizer's, or one of two generators'."""
    return any(
        names <= tensors.keys()
        for names in (
            {"latent_tokens", "encoder.latent_token_positional_embedding"},
            {"model.embeddings.word_embeddings.weight", "model.lm_head.weight"},
            {"embeddings.weight", "in_blocks.0.attn.qkv.weight", "lm_head.weight"},
        )
    )


def read(foreign: Foreign, sizes: Sizes) -> Imported:
    """A tokenizer or a generator. ValueError for the project's other models."""
    sizes = _flat(sizes)
    if "latent_tokens" in foreign.tensors:
        return _tokenizer(foreign.tensors, sizes)
    return _generator(foreign.tensors, sizes)


def _flat(sizes: Sizes) -> Sizes:
    """What the project's config.json says of its nets, all in one, and what is given over it."""
    found: dict[str, Any] = {}
    for names in (("model", "vq_model"), ("model", "generator")):
        part: Any = sizes.given
        for name in names:
            part = part.get(name) if isinstance(part, Mapping) else None
        found |= part if isinstance(part, Mapping) else {}
    return Sizes({**found, **sizes.given})


def _tokenizer(tensors: Tensors, sizes: Sizes) -> Imported:
    _refuse_others(tensors)
    two_stages = "decoder.ffn.2.weight" in tensors
    ours = renamed(_numbered(tensors), TOKENIZER + (TWO_STAGES if two_stages else ONE_STAGE))
    encoder, decoder = "encoder.net.", "decoder.net."
    _, channels, patch, _ = shape_of(ours, f"{encoder}patch.weight")
    codebook_size, code_dim = shape_of(ours, "quantizer.embedding.weight")
    image_size = patch * _side(ours, encoder)
    side = _side(ours, decoder)
    if image_size % side:
        raise ValueError(f"its decoder draws {side}x{side} patches of {image_size} pixels a side")
    pixels = _pixels(ours, sizes) if two_stages else None
    if pixels is not None and side * 2 ** (len(pixels["widths"]) - 1) != image_size:
        raise ValueError(f"its decoder draws images that have no {image_size} pixels a side")
    normed = sizes.get("use_l2_norm", USE_L2_NORM.get((codebook_size, code_dim)))
    model = {
        "name": "titok",
        "image_size": image_size,
        "channels": channels,
        "patch": patch,
        "decoder_patch": image_size // side,
        "num_codes": shape_of(ours, f"{encoder}latents")[0],
        "codebook_size": codebook_size,
        "code_dim": code_dim,
        "distance": "cosine" if normed else "euclidean",
        "encoder": _vit(ours, sizes, "encoder"),
        "decoder": _vit(ours, sizes, "decoder"),
        "pixels": pixels,
    }
    return Imported("tokenizer", model, ours)


def _refuse_others(tensors: Tensors) -> None:
    """ValueError for models that have their names in common with those that are read."""
    if any("text_guidance" in name for name in tensors):
        raise ValueError("it is a TA-TiTok, whose decoder is given a text as well: none is read")
    if "quantize.embedding.weight" not in tensors:
        raise ValueError(
            'it has no table of codes, as the "vae" tokenizers of continuous latents: take one of '
            "l32, b64, s128 or vq8k"
        )
    if "decoder.ffn.2.weight" in tensors and "pixel_quantize.embedding.weight" not in tensors:
        raise ValueError(
            "it is of the first stage of training, which draws codes of MaskGIT-VQGAN and no "
            "pixels: take the published file, which has a pixel_decoder"
        )


def _numbered(tensors: Tensors) -> dict[str, Tensor]:
    """With the upsampling after level i + 1 as number i."""

    def turned(name: str) -> str:
        return re.sub(
            r"^pixel_decoder\.up\.(\d+)\.upsample_conv\.",
            lambda found: f"draw.net.up.{int(found[1]) - 1}.conv.",
            name,
        )

    return {turned(name): tensor for name, tensor in tensors.items()}


def _side(tensors: Tensors, half: str) -> int:
    """Of the square of patches that a ViT knows the positions of, after that of its class token."""
    return whole_root(shape_of(tensors, f"{half}positions")[0] - 1, "its patches")


def _vit(tensors: Tensors, sizes: Sizes, half: str) -> dict[str, int]:
    dim = shape_of(tensors, f"{half}.net.positions")[1]
    depth = number_of(tensors, f"{half}.net.layers.")
    given = sizes.given.get(half)
    heads = given.get("heads") if isinstance(given, Mapping) else None
    heads = heads or HEADS["vit"].get((dim, depth))
    if heads is None:
        raise ValueError(
            f"its tensors do not say the heads of its {half}, and {dim} channels and {depth} "
            "layers are none of the published sizes: give them in a JSON file, "
            f'{{"{half}": {{"heads": ...}}}}, by --sizes'
        )
    return {"dim": dim, "depth": depth, "heads": Sizes({"heads": heads}).whole("heads")}


def _pixels(tensors: Tensors, sizes: Sizes) -> dict[str, Any]:
    """The options of vqgan.published.titok.pixel_decoder."""
    half = "decoder.draw.net."
    levels = number_of(tensors, f"{half}level.")
    widths = [shape_of(tensors, f"{half}level.{i}.block.0.conv1.weight")[0] for i in range(levels)]
    codes, code_dim = shape_of(tensors, "decoder.draw.codes.embedding.weight")
    given = sizes.given.get("pixel")
    sizes = Sizes({**(given if isinstance(given, Mapping) else {}), **sizes.given})
    return {
        "codes": codes,
        "code_dim": code_dim,
        "widths": widths,
        "num_blocks": number_of(tensors, f"{half}level.0.block."),
        "norm_groups": min((groups_of(sizes, width) for width in widths), default=1),
    }


def _generator(tensors: Tensors, sizes: Sizes) -> Imported:
    name = "titok_uvit" if "in_blocks.0.attn.qkv.weight" in tensors else "titok_bert"
    ours = _bert(tensors) if name == "titok_bert" else _uvit(tensors)
    rows, places = (ours.pop(key) for key in ("rows", "places"))
    codebook_size, dim = shape_of(ours, "to_logits.weight")
    num_classes = len(rows) - codebook_size - 2  # beside them the mask token, and no label
    if num_classes < 1 or len(places) < 2:
        raise ValueError(f"its table of {len(rows)} rows has no classes beside its codes")
    ours |= {
        "codes.weight": rows[: codebook_size + 1],
        "labels.weight": rows[codebook_size + 1 :],
        "label_position": places[0],
        "positions": places[1:],
    }
    blocks = number_of(ours, "blocks.")
    depth = blocks if name == "titok_bert" else blocks - 1
    model = {
        "name": name,
        "codebook_size": codebook_size,
        "grid": [1, len(places) - 1],
        "num_classes": num_classes,
        "dim": dim,
        "depth": depth,
        "heads": sizes.whole("num_attention_heads", HEADS[name].get((dim, depth))),
        "hidden": shape_of(ours, "blocks.0.w1.weight")[0],
    }
    return Imported("maskgit", model, ours)


def _bert(tensors: Tensors) -> dict[str, Tensor]:
    """The kind of token, of which there is one, is added to the positions."""
    ours = renamed(tensors, BERT)
    ours.pop("model.embeddings.position_ids", None)
    kind = "model.embeddings.token_type_embeddings.weight"
    for name in (kind, "places"):
        shape_of(ours, name)
    ours["places"] = ours["places"].float() + ours.pop(kind)[0].float()
    for number in range(number_of(ours, "blocks.")):
        for part in ("weight", "bias"):
            names = [f"blocks.{number}.{side}.{part}" for side in "qkv"]
            for name in names:
                shape_of(ours, name)
            ours[f"blocks.{number}.to_qkv.{part}"] = torch.cat([ours.pop(name) for name in names])
    return ours


def _uvit(tensors: Tensors) -> dict[str, Tensor]:
    """The first blocks, the one in the middle and the last ones are numbered through."""
    ours = renamed(tensors, UVIT)
    half = number_of(ours, "in.")
    if number_of(ours, "out.") != half:
        raise ValueError(f"it lacks out_blocks: {number_of(ours, 'out.')} of {half}")
    starts = {"in": 0, "mid": half, "out": half + 1}

    def turned(name: str) -> str:
        return re.sub(
            r"^(in|mid|out)\.(\d+)\.",
            lambda found: f"blocks.{starts[found[1]] + int(found[2])}.",
            re.sub(r"^mid_block\.", "mid.0.", name),
        )

    ours = {turned(name): tensor for name, tensor in ours.items()}
    shape_of(ours, "places")
    ours["places"] = ours["places"][0]
    return ours


def _published() -> tuple[Published, ...]:
    """The files that are read, with their (r)FIDs of README_TiTok.md."""
    tokenizers = {
        "l32": ("4,096 codes, 1 x 32", 2.21),
        "b64": ("4,096 codes, 1 x 64", 1.70),
        "s128": ("4,096 codes, 1 x 128", 1.71),
        "bl64_vq8k": ("8,192 codes, 1 x 64", 2.06),
        "bl128_vq8k": ("8,192 codes, 1 x 128", 1.49),
        "sl256_vq8k": ("8,192 codes, 1 x 256", 1.03),
    }
    generators = {"l32": 2.77, "b64": 2.48, "s128": 1.97}
    return (
        *(
            Published(f"{REPO}/tokenizer_titok_{name}_imagenet", FILE, f"tokenizer, {what}", fid)
            for name, (what, fid) in tokenizers.items()
        ),
        *(
            Published(f"{REPO}/generator_titok_{name}_imagenet", FILE, "generator", fid)
            for name, fid in generators.items()
        ),
    )


REPO, FILE = "yucornetto", "model.safetensors"
NAMED = {32: "l32", 64: "b64", 128: "s128"}
"""Of generators, by their codes."""


def _drawn(steps: int, temperature: float, scale: float, schedule: str | dict[str, Any]) -> Drawn:
    """Logits + T * Gumbel noise is a draw at temperature T, which falls to 0 over the rounds."""
    falling = (temperature, 0.0)
    sampler = {"name": "confidence", "steps": steps, "schedule": "arccos"}
    return (
        {**sampler, "temperature": falling, "choice_temperature": falling},
        {"scale": scale, "schedule": schedule},
    )


DRAWN: dict[int, Drawn] = {
    32: _drawn(8, 9.5, 5.5, "linear"),
    64: _drawn(8, 11.0, 4.0, "linear"),
    128: _drawn(64, 2.8, 6.9, {"name": "power_cosine", "power": 3.0}),
}
"""By their codes, as configs/infer of the project has it. Where theirs is linear, (1 + w) c - w u
is our scale 1 + w: their w grows from 0 to 7/8 of 4.5 (or 3), ours from 1/8 of it to all. Theirs by
power-cosine is u + s (c - u), as ours."""
SYSTEM = System(
    "TiTok",
    "https://github.com/bytedance/1d-tokenizer",
    "Apache-2.0",
    _published(),
    knows,
    read,
    tokenizer="titok hub:yucornetto/tokenizer_titok_{}_imagenet",
    size=lambda model: NAMED.get(model["grid"][1], "SIZE"),
    settings=lambda model: DRAWN.get(model["grid"][1], DRAWN[32]),
)
