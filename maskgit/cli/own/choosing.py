"""Which settings suit a folder of images, a time and a machine; each choice in a line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskgit.cli.own.speed import BATCH, generator_step, pick, tokenizer_step
from maskgit.data import Inspection
from maskgit.data.sources import load_source

SIZES = (32, 48, 64, 96, 128, 256)
MOST_CELLS = 16
"""Of a side of the grid: more cells than 16 x 16 take a generator longer than minutes."""
WIDTHS = ([32, 64], [48, 96], [64, 128], [96, 192], [128, 256])
NETS = (
    {"dim": 128, "depth": 4, "heads": 4, "dim_head": 32},
    {"dim": 192, "depth": 6, "heads": 6, "dim_head": 32},
    {"dim": 256, "depth": 8, "heads": 8, "dim_head": 32},
    {"dim": 384, "depth": 12, "heads": 6, "dim_head": 64},
)
SHARES = {"perceptual": 0.08, "vqgan": 0.36, "maskgit": 0.42, "classifier": 0.06}
"""Of the time with classes; without, judge and perceptual net have nothing to learn."""
WITHOUT_CLASSES = {"vqgan": 0.46, "maskgit": 0.46}
ENOUGH = {"vqgan": 1500, "maskgit": 2500}
"""Steps in which a net of some size has to fit to be taken, rather than a smaller one."""
LEAST = {"vqgan": 500, "maskgit": 800}
"""Steps below which a stage shows little, as short trainings of sprites and clothes did."""
TITLES = {"vqgan": "tokenizer", "maskgit": "generator"}
FEW_IMAGES = 20_000
"""Images up to which a generator gets some dropout."""


@dataclass
class Plan:
    """All that the configs are written from."""

    source: Any
    minutes: float
    shares: dict[str, float]
    data: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of a step, about
    says: list[str] = field(default_factory=list)

    def minutes_of(self, stage: str) -> float:
        """Its part of the time, to a tenth of a minute, or a tenth of that where it is short."""
        return max(0.01, round(self.shares[stage] * self.minutes, 1 if self.minutes >= 5 else 2))

    def steps_of(self, stage: str) -> float:
        """About so many."""
        return 60 * self.minutes_of(stage) / self.seconds[stage]

    @property
    def downscale(self) -> int:
        """f of the tokenizer."""
        return int(self.tokenizer["patch_size"] * 2 ** (len(self.tokenizer["widths"]) - 1))

    @property
    def cells(self) -> int:
        """Of a side of the grid."""
        return int(self.data["image_size"]) // self.downscale


def choose_all(found: Inspection, source: Any, minutes: float, size: int | None) -> Plan:
    """From the data, the time and the speed measured here."""
    shares = SHARES if len(found.class_names) > 1 else WITHOUT_CLASSES
    plan = Plan(source, minutes, dict(shares))
    _data(plan, found, size)
    _classes(plan, found)
    _tokenizer(plan)
    _generator(plan, found)
    plan.says += _too_little(plan)
    return plan


def _too_little(plan: Plan) -> list[str]:
    """A line for each stage that has far too few steps to become anything, with what it needs."""
    lines = []
    for stage, wanted in LEAST.items():
        steps = plan.steps_of(stage)
        if steps < wanted:
            total = plan.minutes * wanted / steps
            lines.append(
                f"NOT ENOUGH TIME: about {steps:.0f} steps of the {TITLES[stage]}, which shows "
                f"little below {wanted}: about --minutes {total:.0f}, or a smaller --size"
            )
    return lines


def _data(plan: Plan, found: Inspection, size: int | None) -> None:
    alpha, colour = found.share("has_alpha"), found.share("is_colour")
    channels = 4 if alpha > 0.2 else 3 if colour > 0.02 else 1
    chosen = size or _size(plan, found, channels)
    why = "as you said" if size else f"images of about {found.long_side} px"
    plan.says.append(f"image size {chosen}: {why}; {_cost_of_size(chosen)}")
    words = {1: "grey", 3: "colour", 4: "colour and transparency"}
    plan.says.append(
        f"channels {channels}: {words[channels]} ({colour:.0%} are in colour, {alpha:.0%} have "
        "transparent pixels)"
    )
    plan.data = {"image_size": chosen, "channels": channels, "flip": False}
    sides = found.sizes
    odd = sum(n for one, n in sides.items() if max(one) > 1.1 * min(one)) / max(1, len(found.seen))
    if channels == 4 or odd > 0.1:
        plan.data["resize"] = "contain"
        plan.says.append(
            "resize contain: all of each image; a cut from the middle would lose edges"
        )
    [(usual, _)] = sides.most_common(1)
    if found.is_pixel_art and 0 in (max(usual) % chosen, chosen % max(usual)):
        plan.data["resample"] = "nearest"
        plan.says.append(f"resample nearest: pixel art of {max(usual)} px stays sharp")
    elif found.is_pixel_art:
        plan.says.append(
            f"resample lanczos: pixel art of {max(usual)} px would lose rows of pixels by nearest; "
            f"a size that divides {max(usual)} keeps them sharp"
        )
    plan.says.append(
        "flip false: where left and right do not matter, data.flip=true is worth twice the images"
    )


FRAMES = r"^(.*?)[-_ ]*\d*\.\w+$"
"""The part of a name before its number: what frames of one animation share."""
UNEVEN, LEAKY = 5, 0.05
"""How many times the smallest class the largest has, and the share of validation images with a near
duplicate in training, from which on something is done about it."""


def _classes(plan: Plan, found: Inspection) -> None:
    """Balance, and what belongs together."""
    if found.imbalance > UNEVEN:
        plan.data["balance"] = "sqrt"
        plan.says.append(
            f"balance sqrt: the largest class has {found.imbalance:.0f} times the images of the "
            "smallest; none would hardly show the small ones, uniform would show them over and over"
        )
    inside = sum(found.seen[i].split == "validation" for group in found.leaked for i in group)
    held = sum(one.split == "validation" for one in found.seen)
    if inside > LEAKY * held and isinstance(plan.source, dict) and _has_frames(plan, found):
        plan.data["source"] = {**plan.source, "group": FRAMES}
        plan.says.append(
            "source.group: images whose names differ by a number alone stay in one split; "
            f"{inside / held:.0%} of the validation images would have a twin that is trained on"
        )


def _has_frames(plan: Plan, found: Inspection) -> bool:
    """Whether names tell groups, several of each class: numbers alone, 1.jpg, 2.jpg, do not.

    Not where the source cannot keep them together, as where folders say which images validate.
    """
    if plan.source.get("name") != "folder" or "group" in plan.source:
        return False
    try:
        load_source({**plan.source, "group": FRAMES}, "train")
    except ValueError:
        return False
    groups: dict[int, set[str]] = {}
    for one in found.seen:
        groups.setdefault(one.label, set()).add(re.sub(FRAMES, r"\1", Path(one.name).name))
    return all(len(names) > 1 for names in groups.values())


def _cost_of_size(size: int) -> str:
    smaller = max([one for one in SIZES if one < size], default=None)
    if smaller is None:
        return "the smallest"
    return f"{smaller} would take {(smaller / size) ** 2:.0%} of the time and show less"


def _size(plan: Plan, found: Inspection, channels: int) -> int:
    """The largest that images have, and that a small tokenizer can learn in its time."""
    fitting = [one for one in SIZES if one <= 1.15 * found.long_side] or [SIZES[0]]
    longest = 60 * plan.minutes_of("vqgan") / ENOUGH["vqgan"]

    def seconds(size: int) -> float:
        return tokenizer_step(size, channels, tokenizer_model(WIDTHS[0], 4, channels))

    return fitting[pick(fitting, seconds, longest)]


def tokenizer_model(widths: list[int], downscale: int, channels: int) -> dict[str, Any]:
    """A tokenizer of two widths, or three for f8."""
    levels = [8, 8, 8] if channels == 1 else [8, 5, 5, 5]
    all_widths = widths if downscale == 4 else [*widths, widths[-1]]
    model = {"widths": all_widths, "num_blocks": 1, "patch_size": 2}
    return model | {"quantizer": {"name": "fsq", "levels": levels}}


def _tokenizer(plan: Plan) -> None:
    size, channels = plan.data["image_size"], plan.data["channels"]
    downscale = 4 if size // 4 <= MOST_CELLS else 8 if size // 8 <= MOST_CELLS else 16
    longest = 60 * plan.minutes_of("vqgan") / ENOUGH["vqgan"]
    model = _of_widths(downscale, channels)
    seconds = _remembered(lambda widths: tokenizer_step(size, channels, model(widths)))
    place = pick(WIDTHS, lambda widths: seconds(tuple(widths)), longest)
    plan.tokenizer = model(list(WIDTHS[place]))
    plan.seconds["vqgan"] = seconds(tuple(WIDTHS[place]))
    cells = size // downscale
    other = f"f{2 * downscale} would have a quarter of the cells and lose detail"
    if size // (downscale // 2) <= 2 * MOST_CELLS:
        other += f", f{downscale // 2} four times the cells, each step of the generator much longer"
    plan.says.append(f"f{downscale}, {cells} x {cells} cells: {other}")
    codes = 512 if channels == 1 else 1000
    plan.says.append(
        f"{codes} codes (FSQ): more keep more of an image and are harder to learn for the generator"
    )
    wider = "" if place + 1 == len(WIDTHS) else f"; {list(WIDTHS[place + 1])} would leave fewer"
    plan.says.append(
        f"tokenizer widths {plan.tokenizer['widths']}: about {plan.steps_of('vqgan'):.0f} steps of "
        f"{BATCH} images in {plan.minutes_of('vqgan'):g} minutes{wider}"
    )


def _of_widths(downscale: int, channels: int) -> Callable[[Any], dict[str, Any]]:
    """Widths -> a model, of 16 by larger patches."""
    patch = 4 if downscale == 16 else 2

    def model(widths: Any) -> dict[str, Any]:
        found = tokenizer_model(list(widths), min(8, downscale), channels)
        return found | {"patch_size": patch}

    return model


def _remembered(measure: Callable[[Any], float]) -> Callable[[Any], float]:
    """As `measure`, but each thing once."""
    known: dict[Any, float] = {}

    def seconds(of: Any) -> float:
        if of not in known:
            known[of] = measure(of)
        return known[of]

    return seconds


def _generator(plan: Plan, found: Inspection) -> None:
    codes = 512 if plan.data["channels"] == 1 else 1000
    longest = 60 * plan.minutes_of("maskgit") / ENOUGH["maskgit"]
    seconds = _remembered(lambda place: generator_step(plan.cells, codes, dict(NETS[place])))
    nets = range(len(NETS if found.num_images > 2000 else NETS[:2]))
    place = pick(nets, seconds, longest)
    few = found.num_images < FEW_IMAGES
    plan.generator = {**NETS[place], "dropout": 0.1 if few else 0.0}
    plan.seconds["maskgit"] = seconds(place)
    net = f"{NETS[place]['depth']} layers of {NETS[place]['dim']}"
    larger = ""
    if place + 1 < len(NETS):
        larger = f"; {NETS[place + 1]['depth']} of {NETS[place + 1]['dim']} would leave fewer"
    plan.says.append(
        f"generator of {net}: about {plan.steps_of('maskgit'):.0f} steps of {BATCH} grids in "
        f"{plan.minutes_of('maskgit'):g} minutes{larger}"
    )
    if few:
        plan.says.append(
            f"dropout 0.1: {found.num_images:,} images are soon learned by heart without it"
        )
