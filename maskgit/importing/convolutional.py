"""Options of a PublishedVQGAN from its tensors: widths, blocks and attention show in their shapes.

Canonical names: `encoder.net.level.{i}.block.{j}`, level 0 being the finest in both halves, and
`.attn.{j}`; `encoder.net.down.{i}.conv`, `encoder.net.mid.{j}`, `decoder.net.up.{i - 1}.conv` after
level i.
"""

from __future__ import annotations

from typing import Any

from maskgit.importing.system import Sizes, Tensors, number_of, shape_of

GROUPS = 32
"""Of every published file's norms."""


def vqgan_options(tensors: Tensors, sizes: Sizes, **own: Any) -> dict[str, Any]:
    """tensors under canonical names -> the keywords of PublishedVQGAN; own: those of the system."""
    encoder, decoder = "encoder.net.", "decoder.net."
    width, channels = shape_of(tensors, f"{encoder}conv_in.weight")[:2]
    levels = number_of(tensors, f"{encoder}level.")
    widths = [_width(tensors, f"{encoder}level.{i}.") for i in range(levels)]
    if not widths or any(each % width for each in widths):
        raise ValueError(f"its levels have {widths} channels, which are no multiples of {width}")
    latent_dim, _, last_kernel, _ = shape_of(tensors, f"{encoder}conv_out.weight")
    found: dict[str, Any] = {
        "name": "vqgan",
        "image_size": int(sizes.get("resolution", 16 * 2 ** (levels - 1))),
        "channels": channels,
        "width": width,
        "multipliers": [each // width for each in widths],
        "num_blocks": number_of(tensors, f"{encoder}level.0.block."),
        "decoder_blocks": number_of(tensors, f"{decoder}level.0.block."),
        "latent_dim": latent_dim,
        "norm_groups": groups_of(sizes, width),
        "attention": _attention(tensors, encoder, levels),
        "decoder_attention": _attention(tensors, decoder, levels),
        "middle_attention": f"{encoder}mid.1.q.weight" in tensors,
        "bias": f"{encoder}level.0.block.0.conv1.bias" in tensors,
        "last_kernel": last_kernel,
    }
    if "encoder.quant_conv.weight" in tensors:
        found["code_dim"] = shape_of(tensors, "encoder.quant_conv.weight")[0]
    if "quantizer.embedding.weight" in tensors:
        found["codebook_size"] = shape_of(tensors, "quantizer.embedding.weight")[0]
    return found | own


def groups_of(sizes: Sizes, width: int) -> int:
    """The groups of all norms; ValueError if they do not divide the channels."""
    groups = int(sizes.get("norm_groups", GROUPS))
    if groups < 1 or width % groups:
        raise ValueError(
            f"{width} channels do not divide into {groups} groups of a norm: give "
            '{"norm_groups": ...} in a JSON file, by --sizes'
        )
    return groups


def _width(tensors: Tensors, level: str) -> int:
    return shape_of(tensors, f"{level}block.0.conv1.weight")[0]


def _attention(tensors: Tensors, half: str, levels: int) -> list[int]:
    return [i for i in range(levels) if f"{half}level.{i}.attn.0.q.weight" in tensors]
