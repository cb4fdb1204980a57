"""Convolutional tokenizers: our names for their tensors, and their options from these.

Canonical names: `encoder.net.level.{i}.block.{j}`, level 0 being the finest in both halves, and
`.attn.{j}`; `encoder.net.down.{i}.conv`, `encoder.net.mid.{j}`, `decoder.net.up.{i - 1}.conv` after
level i.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from maskgit.importing.system import Rules, Sizes, Tensors, number_of, renamed, shape_of

GROUPS = 32
"""Of every published file's norms."""
RESOLUTION = 256
"""Pixels that nearly all published tokenizers were trained for."""
RULES: Rules = [
    (r"^(quant_conv|encoder)\.", r"encoder.\1."),
    (r"^(post_quant_conv|decoder)\.", r"decoder.\1."),
    (r"^(encoder|decoder)\.\1\.", r"\1.net."),
    (r"\.net\.down\.(\d+)\.(block|attn)\.", r".net.level.\1.\2."),
    (r"\.net\.up\.(\d+)\.(block|attn)\.", r".net.level.\1.\2."),
    (r"\.net\.down\.(\d+)\.downsample\.(conv\.)?", r".net.down.\1.conv."),
    (
        r"\.net\.up\.(\d+)\.upsample(_conv|\.conv1?)\.",
        lambda found: f".net.up.{int(found[1]) - 1}.conv.",
    ),
    (r"\.mid\.block_(1|2)\.", lambda found: f".mid.{2 * int(found[1]) - 2}."),
    (r"\.mid\.attn_1\.", ".mid.1."),
    (r"\.mid_block\.", ".mid."),
    (r"^quantize\.", "quantizer."),
]
"""Of all projects that call their levels `encoder.down` and `decoder.up`, the finest being 0."""
TRAINING = ("loss.", "model_ema.")
"""Beginnings of names that only training has."""


def canonical(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors of a tokenizer with `encoder.down` and `decoder.up`, under our names."""
    return renamed(
        {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}, RULES
    )


def vqgan_options(tensors: Tensors, sizes: Sizes, **own: Any) -> dict[str, Any]:
    """tensors under canonical names -> the keywords of PublishedVQGAN; own: those of the system."""
    encoder, decoder = "encoder.net.", "decoder.net."
    found = {"name": "vqgan", **encoder_options(tensors, sizes)}
    levels = len(found["multipliers"])
    found |= {
        "decoder_blocks": number_of(tensors, f"{decoder}level.0.block."),
        "attention": _attention(tensors, encoder, levels),
        "decoder_attention": _attention(tensors, decoder, levels),
        "middle_attention": f"{encoder}mid.1.q.weight" in tensors,
        "bias": f"{encoder}level.0.block.0.conv1.bias" in tensors,
        "last_kernel": shape_of(tensors, f"{encoder}conv_out.weight", 4)[2],
    }
    if "encoder.quant_conv.weight" in tensors:
        found["code_dim"] = shape_of(tensors, "encoder.quant_conv.weight", 4)[0]
    if "quantizer.embedding.weight" in tensors:
        found["codebook_size"] = shape_of(tensors, "quantizer.embedding.weight", 2)[0]
    return found | own


def encoder_options(tensors: Tensors, sizes: Sizes) -> dict[str, Any]:
    """What the shapes of an encoder say: widths, levels and blocks of it."""
    encoder = "encoder.net."
    width, channels = shape_of(tensors, f"{encoder}conv_in.weight", 4)[:2]
    levels = number_of(tensors, f"{encoder}level.")
    widths = [_width(tensors, f"{encoder}level.{i}.") for i in range(levels)]
    if not widths or not width or any(each % width for each in widths):
        raise ValueError(f"its levels have {widths} channels, which are no multiples of {width}")
    return {
        "image_size": resolution_of(sizes),
        "channels": channels,
        "width": width,
        "multipliers": [each // width for each in widths],
        "num_blocks": number_of(tensors, f"{encoder}level.0.block."),
        "latent_dim": shape_of(tensors, f"{encoder}conv_out.weight", 4)[0],
        "norm_groups": groups_of(sizes, width),
    }


def groups_of(sizes: Sizes, width: int) -> int:
    """The groups of all norms; ValueError if they do not divide the channels."""
    groups = _whole(sizes.get("norm_groups", GROUPS), "norm_groups")
    if width % groups:
        raise ValueError(
            f"{width} channels do not divide into {groups} groups of a norm: give "
            '{"norm_groups": ...} in a JSON file, by --sizes'
        )
    return groups


def resolution_of(sizes: Sizes, default: int = RESOLUTION) -> int:
    """The side in pixels of the images that a tokenizer is meant for: no tensor says it."""
    inner = sizes.get("ddconfig", {})
    inner = inner.get("resolution") if isinstance(inner, dict) else None
    return _whole(sizes.get("resolution", default if inner is None else inner), "resolution")


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} should be a whole number above 0, not {value!r}")
    return value


def _width(tensors: Tensors, level: str) -> int:
    return shape_of(tensors, f"{level}block.0.conv1.weight", 4)[0]


def _attention(tensors: Tensors, half: str, levels: int) -> list[int]:
    return [i for i in range(levels) if f"{half}level.{i}.attn.0.q.weight" in tensors]
