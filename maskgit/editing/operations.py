"""EDITS: pixels, boxes and masks -> grids with hidden cells -> pixels.

An edit hides the cells that hold a pixel of the mask, fills them by a sampler, decodes the grid,
and copies the decoded pixels of those cells over the original: outside them pixels stay, bit for
bit. (A variation and an interpolation decode all of it.) An image larger than the model's grid is
filled window by window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Len
from PIL import Image
from torch import Tensor

from maskgit.data.pixels import to_float, to_mask, to_pil, to_pixels, to_uint8
from maskgit.editing.windows import fill_windows
from maskgit.pipeline.pipeline import Pipeline
from maskgit.randomness import uniforms
from maskgit.samplers.predictor import Filled
from vqgan.grids import NO_PLACES
from vqgan.registry import choose

KEEP_ROUND = 2**33
"""The round number of the noise that says which cells a variation keeps: no sampler uses it."""


Sides = Annotated[Sequence[Annotated[int, Ge(0)]], Len(4, 4)]
"""Pixels at the left, the top, the right and the bottom."""


class Edit(NamedTuple):
    """An edited image."""

    image: Tensor  # uint8 (channels, height, width)
    before: Tensor  # uint8 (channels, height, width): what was edited, of the same size
    codes: Tensor  # int64 (h, w), no hidden cell
    changed: Tensor  # bool (height, width), pixels that may differ from `before`
    rounds: list[Filled]  # the grid (1, h, w) at the start and after each round of each window


def box_mask(height: int, width: int, box: Sequence[int]) -> Tensor:
    """Bool (height, width), True in the box (left, top, right, bottom), the last two excluded.

    ValueError if it is empty or reaches out of the image.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"the box {left},{top},{right},{bottom} (left, top, right, "
            "bottom) is empty or not inside an image of "
            f"{width} pixels across and {height} down"
        )
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def check_image(pipeline: Pipeline, size: Sequence[int], *, alone: bool = True) -> None:
    """ValueError, with the nearest size that would do, if an image (height, width) does not divide
    into cells, or is smaller than the model's grid where it knows no other, unless it is a part
    only of what is filled (not `alone`)."""
    if not pipeline.tokenizer.has_places:
        pipeline.tokenizer.check_size(*size)
        return
    net, f = pipeline.net, pipeline.tokenizer.downscale
    own = pipeline.tokenizer.size_of(net.grid) if alone and not net.any_grid else (f, f)
    near = [max(least, round(side / f) * f) for side, least in zip(size, own, strict=True)]
    if any(side % f or side < least for side, least in zip(size, own, strict=True)):
        raise ValueError(
            f"an image of {size[0]}x{size[1]} cannot be edited by this model: "
            "the nearest size that can is "
            f"{near[0]}x{near[1]}"
        )


def check_places(pipeline: Pipeline) -> None:
    """ValueError if no part of an image can be drawn alone."""
    if not pipeline.tokenizer.has_places:
        raise ValueError(NO_PLACES)


def inpaint(
    pipeline: Pipeline,
    image: Tensor,
    *,
    label: int,
    seed: int = 0,
    mask: Annotated[Tensor | None, Path, "an image, white where to draw"] = None,
    box: Annotated[Sides | None, "left,top,right,bottom in pixels"] = None,
    feather: Annotated[int, Ge(0), "pixels over which the original fades out"] = 0,
    **options: Any,
) -> list[Edit]:
    """Draw the pixels of a mask or a box anew, as a part of an image of class `label`: another one
    swaps the class.

    image: uint8 (channels, height, width). mask: bool (height, width); box: as in `box_mask`;
    either grows to whole cells. feather: over how many pixels, inside the drawn part, the original
    fades out. options: of the sampler, as in Pipeline.rounds. ValueError if the size does not
    divide into cells, if there is nothing to draw, or if the codes have no places.
    """
    check_places(pipeline)
    check_image(pipeline, image.shape[1:])
    if (mask is None) == (box is None):
        raise ValueError("give either a mask or a box")
    if box is not None:
        mask = box_mask(image.shape[1], image.shape[2], box)
    assert mask is not None
    if mask.shape != image.shape[1:]:
        raise ValueError(
            f"the mask is {mask.shape[1]} pixels across and {mask.shape[0]} down, "
            f"the image {image.shape[2]} and "
            f"{image.shape[1]}"
        )
    if not mask.any():
        raise ValueError("the mask is empty: nothing to draw")
    codes, hidden = encode(pipeline, image), pipeline.tokenizer.codes_of(mask)
    edit = _filled(pipeline, image, codes, hidden, label, seed, options)
    return [_composited(edit, pipeline.tokenizer.pixels_of(hidden), feather)]


def outpaint(
    pipeline: Pipeline,
    image: Tensor,
    *,
    label: int,
    seed: int = 0,
    margins: Annotated[Sides, "left,top,right,bottom in pixels"],
    feather: Annotated[int, Ge(0), "pixels over which the original fades out"] = 0,
    **options: Any,
) -> list[Edit]:
    """Draw what lies around an image. margins: pixels at the left, top, right and bottom; others as
    in `inpaint`.

    ValueError if a margin is negative or no multiple of a cell, the image does not divide, or its
    codes have no places.
    """
    check_places(pipeline)
    f = pipeline.tokenizer.downscale
    check_image(pipeline, image.shape[1:], alone=False)
    if min(margins) < 0 or any(margin % f for margin in margins):
        nearest = [max(0, round(margin / f) * f) for margin in margins]
        if not any(nearest):  # a cell where anything is wanted
            nearest = [f if margin > 0 else 0 for margin in margins]
        near = ",".join(map(str, nearest))
        raise ValueError(
            f"margins are multiples of {f} pixels, such as {near}, "
            f"not {','.join(map(str, margins))}"
        )
    if not any(margins):
        raise ValueError("all margins are 0: nothing to draw")
    left, top, right, bottom = margins
    q = pipeline.tokenizer.codes_per_cell
    cells = (left // f * q, right // f * q, top // f, bottom // f)
    known = encode(pipeline, image)
    codes = F.pad(known, cells)
    hidden = F.pad(torch.zeros_like(known), cells, value=1).bool().cpu()
    margin = (left, right, top, bottom)
    edit = _filled(pipeline, F.pad(image, margin, value=127), codes, hidden, label, seed, options)
    around = F.pad(image.float(), margin, mode="replicate")  # what there is to fade from
    return [_composited(edit, pipeline.tokenizer.pixels_of(hidden), feather, around)]


def variation(
    pipeline: Pipeline,
    image: Tensor,
    *,
    label: int,
    seed: int = 0,
    keep: Annotated[float, Ge(0), "share of cells kept"] = 0.5,
    **options: Any,
) -> list[Edit]:
    """Keep a share of the cells, chosen at random by the seed, and draw the others anew; every
    pixel may change."""
    if not 0 <= keep < 1:
        raise ValueError(f"keep lies in [0, 1), not {keep}")
    check_image(pipeline, image.shape[1:])
    codes = encode(pipeline, image)
    q = pipeline.tokenizer.codes_per_cell  # which stay together
    u = uniforms([seed], KEEP_ROUND, (codes.shape[0], codes.shape[1] // q))[0]
    rank = u.flatten().argsort().argsort().view_as(u)
    hidden = (rank >= min(round(keep * u.numel()), u.numel() - 1)).repeat_interleave(q, 1)
    return [_filled(pipeline, image, codes, hidden, label, seed, options)]


def interpolate(
    pipeline: Pipeline,
    image: Tensor,
    *,
    label: int,
    seed: int = 0,
    other: Annotated[Tensor | None, str, "the image to end with"] = None,
    other_label: Annotated[int | None, str, "the label or class to end with"] = None,
    num_frames: Annotated[int, Ge(2), "how many images"] = 7,
    keep: Annotated[float, Ge(0), "share of cells kept"] = 0.5,
    **options: Any,
) -> list[Edit]:
    """From one image to another: the further, the more cells are of the other, and the more its
    label counts.

    At the ends nothing is hidden: these frames are the images as the tokenizer decodes them.
    Between, cells of either image are drawn anew, in the middle all but the share `keep`. Which
    cells, and from when on a cell is the other image's, is the same in all frames (by the seed),
    and so is the noise. Without another image, from one label to the other: in all frames, all but
    the share `keep` is drawn anew. ValueError if the sizes differ.
    """
    if num_frames < 2:
        raise ValueError(f"an interpolation has two frames at least, not {num_frames}")
    if not 0 <= keep < 1:
        raise ValueError(f"keep lies in [0, 1), not {keep}")
    if other is None and other_label is None:
        raise ValueError("an interpolation needs another image or another label")
    if other is not None and image.shape != other.shape:
        sizes = " and ".join(f"{one.shape[1]}x{one.shape[2]}" for one in (image, other))
        raise ValueError(f"both images must be of the same size, not {sizes}")
    check_image(pipeline, image.shape[1:])
    first = encode(pipeline, image)
    last = first if other is None else encode(pipeline, other)
    q = pipeline.tokenizer.codes_per_cell  # which stay together
    u = uniforms([seed], KEEP_ROUND, (2, first.shape[0], first.shape[1] // q))[0]
    turn, kept = u.repeat_interleave(q, -1)
    edits = []
    for frame in range(num_frames):
        share = frame / (num_frames - 1)
        codes = torch.where((turn < share).to(first.device), last, first)
        # between images, nothing is hidden at the ends
        most = 1.0 if other is None else 4 * share * (1 - share)
        hidden = kept >= 1 - (1 - keep) * most
        mixed = {} if other_label is None else {"mixed_with": [(other_label, share)]}
        edits.append(_filled(pipeline, image, codes, hidden, label, seed, {**options, **mixed}))
    return edits


EDITS: dict[str, Callable[..., list[Edit]]] = {
    "inpaint": inpaint,
    "outpaint": outpaint,
    "variation": variation,
    "interpolate": interpolate,
}
"""`(pipeline, image, *, label, seed, ..., **options of the sampler) -> edits`, one a frame."""


@torch.no_grad()
def edit(
    pipeline: Pipeline, what: str, image: Image.Image, *, label: int | str, **options: Any
) -> list[Image.Image]:
    """An entry of EDITS (inpaint, outpaint, ...) on a picture -> one image, or several frames.

    options: the edit's (`box=(left, top, right, bottom)`, `mask`, white where to draw, `margins`,
    `keep`, `other`, `seed`, ...) and the sampler's. Pictures are taken in the model's colours.
    """
    given = dict(options)
    if isinstance(mask := given.get("mask"), Image.Image):
        given["mask"] = to_mask(mask)
    if isinstance(other := given.get("other"), Image.Image):
        given["other"] = to_pixels(other, pipeline.tokenizer.channels)
    if isinstance(other_label := given.get("other_label"), str):
        given["other_label"] = pipeline.label(other_label)
    number = pipeline.label(label) if isinstance(label, str) else label
    pixels = to_pixels(image, pipeline.tokenizer.channels)
    edits = choose(EDITS, what, "edit")(pipeline, pixels, label=number, **given)
    return [to_pil(to_float(edit.image)) for edit in edits]


def encode(pipeline: Pipeline, image: Tensor) -> Tensor:
    """uint8 (channels, height, width) -> codes (h, w).

    ValueError if the model's images have other channels.
    """
    if image.shape[0] != pipeline.tokenizer.channels:
        raise ValueError(
            f"the model draws {pipeline.tokenizer.channels} channels, "
            f"the image has {image.shape[0]}"
        )
    return pipeline.tokenizer.encode(to_float(image)[None].to(pipeline.device))[0]


def _filled(
    pipeline: Pipeline,
    image: Tensor,
    codes: Tensor,
    hidden: Tensor,
    label: int,
    seed: int,
    options: dict[str, Any],
) -> Edit:
    """Fill the hidden cells, and decode all of the grid."""
    start = codes.masked_fill(hidden.to(codes.device), pipeline.model.mask_id)[None]
    rounds = [Filled(start, torch.full(start.shape, torch.nan))]
    rounds += fill_windows(pipeline, start, label, seed, **options)
    image_after = to_uint8(pipeline.tokenizer.decode(rounds[-1].codes)[0]).cpu()
    everywhere = torch.ones(image.shape[1:], dtype=torch.bool)
    return Edit(image_after, image, rounds[-1].codes[0], everywhere, rounds)


def _composited(edit: Edit, changed: Tensor, feather: int, under: Tensor | None = None) -> Edit:
    """The drawn pixels where `changed`, else the image's; mixed within `feather` of the border.

    under: (channels, height, width), what the drawn pixels fade into, by default the image.
    """
    if feather < 0:
        raise ValueError(f"feather is a number of pixels, not {feather}")
    weight = changed.float()
    inside = changed[None, None].float()
    for _ in range(feather):  # each turn takes one more ring of pixels off the inside
        inside = 1 - F.max_pool2d(1 - F.pad(inside, (1, 1, 1, 1), value=1.0), 3, stride=1)
        weight += inside[0, 0]
    # a part of fewer rings than that is drawn whole in its middle
    weight /= max(1.0, weight.max().item())
    faded = (edit.before if under is None else under).float()
    mixed = torch.lerp(faded, edit.image.float(), weight).round().to(torch.uint8)
    return edit._replace(image=torch.where(changed, mixed, edit.before), changed=changed)
