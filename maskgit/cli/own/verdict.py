"""Which stage limits the result, in words: what the tokenizer loses beside what samples lack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

LIMITS = 0.5
"""Of the samples' FID, what the reconstructions' own has to be for the tokenizer to limit it."""
MUSH = 0.5
"""Of colour and detail, below which the tokenizer limits, whatever else is measured."""
WEAK = 0.6
"""Accuracy of a judge in whose features FID says little."""
PALE, BLURRED = 0.85, 0.75
"""Of the originals' colour and detail, below which it is said to be lost."""
LEARNED = 0.03
"""How much the validation loss may still fall by, over its last third, in a stage that is done."""


def colour_of(images: Tensor) -> Tensor:
    """What of images (n, 3, h, w) is not grey, as seen from afar: (n, 3, h / 4, w / 4)."""
    small = F.avg_pool2d(images, 4)
    return small - small.mean(1, keepdim=True)


def detail_of(images: Tensor) -> Tensor:
    """What of images (n, channels, h, w) is finer than 3 x 3 pixels."""
    return images - F.avg_pool2d(F.pad(images, (1,) * 4, mode="replicate"), 3, stride=1)


@dataclass(frozen=True)
class Measured:
    """The numbers that a verdict is made from; nan where one was not measured."""

    psnr: float
    colour: float  # of the originals', what reconstructions have
    detail: float
    fid: float = math.nan
    rfid: float = math.nan
    floor: float = math.nan  # of other real images
    agreement: float = math.nan
    judge: float = math.nan  # its accuracy on real images
    num_images: int = 0


def kept(originals: Tensor, decoded: Tensor) -> tuple[float, float]:
    """The shares of colour and of detail that reconstructions keep, each in its place: the slope of
    the decoded on the originals', in [0, 1]; 1 of what there is none of."""
    shares = []
    for measure in (colour_of, detail_of):
        whole, left = measure(originals), measure(decoded)
        power = whole.square().mean().item()
        share = (whole * left).mean().item() / power if power > 1e-6 else 1.0
        shares.append(min(1.0, max(0.0, share)))
    return shares[0], shares[1]


def is_falling(values: list[float]) -> bool:
    """Whether a loss, as it was evaluated, still fell clearly over its last third."""
    third = values[-max(2, len(values) // 3 + 1) :]
    return len(third) > 1 and (third[0] - third[-1]) > LEARNED * abs(third[0])


def limits(found: Measured) -> str:
    """The stage that limits the result: vqgan, maskgit or neither; unknown without FIDs."""
    if min(found.colour, found.detail) < MUSH:
        return "vqgan"
    if math.isnan(found.fid):
        return "unknown"
    if found.fid < 2 * found.floor:
        return "neither"
    return "vqgan" if found.rfid > LIMITS * found.fid else "maskgit"


def verdict(
    found: Measured, *, minutes: dict[str, float], folder: str, out: str, learning: bool
) -> list[str]:
    """Sentences: what limits, what it loses, what to do next and how long that takes.

    minutes: of the stages; learning: whether the generator's validation loss still fell.
    """
    which = limits(found)
    lines = [_what(found, which)]
    lost = []
    if found.colour < PALE:
        lost.append(f"{1 - found.colour:.0%} of the colour")
    if found.detail < BLURRED:
        lost.append(f"{1 - found.detail:.0%} of the detail")
    if lost:
        lines.append(f"The tokenizer loses {' and '.join(lost)}: no sample can have more.")
    elif not math.isnan(found.psnr):
        lines.append(
            f"The tokenizer keeps {found.colour:.0%} of the colour and {found.detail:.0%} of the "
            f"detail ({found.psnr:.1f} dB)."
        )
    if not math.isnan(found.agreement):
        lines.append(
            f"{found.agreement:.0%} of the samples are read as the class asked for; of real images "
            f"the judge reads {found.judge:.0%} right."
        )
        if found.judge < WEAK:
            lines.append(
                "A judge that errs so often sees little: look at the pictures, not at FID."
            )
    return [*lines, *_next(which, minutes, folder, out, learning)]


def _what(found: Measured, which: str) -> str:
    numbers = ""
    if not math.isnan(found.fid):
        numbers = (
            f" FID of {found.num_images} samples {found.fid:.1f}, of as many reconstructions "
            f"{found.rfid:.1f}, of as many other real images {found.floor:.1f}."
        )
    said = {
        "vqgan": "The tokenizer limits the result: look at its reconstructions beside the "
        "originals.",
        "maskgit": "The generator limits the result: reconstructions are much nearer to the images "
        "than samples are.",
        "neither": "Samples are about as near to the images as other images are, as far as these "
        "few can tell.",
        "unknown": "Which stage limits was not measured, since that takes classes and the extra "
        "`maskgit-torch[evaluate]`: compare reconstructions.png and grid.png by eye.",
    }
    return said[which] + numbers


def _next(
    which: str, minutes: dict[str, float], folder: str, out: str, learning: bool
) -> list[str]:
    if which == "neither":
        return ["Next: a larger --size, or `maskgit serve` to play with it."]
    if which == "vqgan":
        total = 3 * sum(minutes.values())
        return [
            f"Next: all of it with three times the time, about {total:.0f} minutes, since new "
            f"codes need a new generator: `maskgit quickstart {folder} --minutes {total:.0f} "
            "--name longer`."
        ]
    more = 2 * minutes["maskgit"]
    if learning:
        return [
            f"Next: it was still learning; {more:g} minutes in all, {minutes['maskgit']:g} more: "
            f"`maskgit train {out}/maskgit.yaml train.minutes={more:g}`, then the same quickstart "
            "again draws and measures anew."
        ]
    return [
        "Next: its validation loss has stopped falling, so that more time alone would not help: "
        "more images, data.flip=true where left and right do not matter, or model.dropout=0.2 in "
        f"{out}/maskgit.yaml with run={out}/maskgit2 ({minutes['maskgit']:g} minutes)."
    ]


def as_numbers(found: Measured) -> dict[str, Any]:
    """JSON values of what was measured."""
    return {key: value for key, value in vars(found).items() if value == value}
