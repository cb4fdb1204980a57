"""Requests of `maskgit edit` -> PNG files: which pictures, which edit, and where the results go."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from maskgit.config.keywords import Keyword, keywords_of, option_name
from maskgit.data.pixels import (
    save_png,
    to_float,
    to_pil,
)
from maskgit.editing.files import mask_of, picture_of
from maskgit.editing.operations import EDITS, Edit
from maskgit.pictures import image_grid
from maskgit.pipeline.asked import at_least_one, check_seed
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.views import Views, frames
from maskgit.samplers.predictor import Filled
from vqgan.registry import choose, listed

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Retouch:
    """What to edit. images: files, or `validation:17`, an image of the run's own data.

    label, other_label: labels or class names; an image of the data set has its own by default.
    number: how many edits of each image, with seeds that run on from `seed`. resize: cut files to
    the model's own size first. options: the edit's (box, mask, margins, ...) and the sampler's.
    """

    what: str
    images: Sequence[str]
    label: str | None
    seed: int
    number: int
    resize: bool
    options: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least_one(number=self.number)
        check_seed(self.seed)


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    out: a .png for one, or a folder; pairs: one picture of all, before and after.
    """

    out: Path | None
    pairs: Path | None
    views: Views

    def check(self) -> None:
        """ValueError if there is none, or if the pairs have the wrong suffix."""
        if self.out is None and self.pairs is None and not self.views:
            raise ValueError(
                "say where the result goes: --out, --pairs, --strip, --gif or --confidence"
            )
        if self.pairs is not None and self.pairs.suffix.lower() != ".png":
            raise ValueError(f"{self.pairs}: pictures are written as .png")

    @property
    def one_file(self) -> bool:
        """Whether `out` is a picture, and no folder."""
        return self.out is not None and self.out.suffix.lower() in PICTURES


class Job(NamedTuple):
    """One edit of one image."""

    name: str  # of its files
    image: Tensor  # uint8 (channels, height, width)
    label: int
    seed: int
    options: dict[str, Any]  # the edit's own


def retouch(pipeline: Pipeline, request: Retouch, outputs: Outputs) -> list[Path]:
    """Edit, write, and return the paths.

    ValueError before any work if the request cannot be met.
    """
    edit = choose(EDITS, request.what, "edit")
    found: list[tuple[str, list[Edit]]] = []
    paths = []
    for job in tqdm(plan(pipeline, request, outputs), unit="edit", desc=request.what):
        edits = edit(
            pipeline,
            job.image,
            label=job.label,
            seed=job.seed,
            **job.options,
            **request.sampling,
        )
        if not found:  # what is told and shown is of the first edit
            _say_what_grew(edits[0], job.options)
            paths += _write_views(pipeline, job.name, edits, outputs.views)
        paths += _write_edits(job.name, edits, outputs)
        found.append((job.name, [one._replace(rounds=[]) for one in edits]))
    return paths + _write_pairs(found, outputs.pairs)


def plan(pipeline: Pipeline, request: Retouch, outputs: Outputs) -> list[Job]:
    """Every edit to make, each image by all its seeds. ValueError if the request cannot be met."""
    outputs.check()
    options = options_for(pipeline, request)
    jobs = []
    for name, title in zip(request.images, _titles(request.images), strict=True):
        image, own = picture_of(pipeline, name, request.resize, alone="margins" not in options)
        label = _label(pipeline, request.label, own, name)
        for seed in range(request.seed, request.seed + request.number):
            jobs.append(Job(f"{title}_{seed:06d}", image, label, seed, options))
    if outputs.pairs is not None and len({job.image.shape for job in jobs}) > 1:
        raise ValueError("images of different sizes do not fit into one picture: leave out --pairs")
    single = len(jobs) == 1 and "num_frames" not in keywords_for(request.what)
    if outputs.one_file and not (single and str(outputs.out).lower().endswith(".png")):
        raise ValueError(f"{outputs.out}: one edit is written as .png, several into a folder")
    return jobs


def _titles(images: Sequence[str]) -> list[str]:
    """What the files of an image are called; a number tells files of one name apart."""
    stems = [Path(name.replace(":", "-")).stem for name in images]
    again = [stems[:number].count(stem) for number, stem in enumerate(stems)]
    return [f"{stem}-{k + 1}" if k else stem for stem, k in zip(stems, again, strict=True)]


def edit_keywords() -> dict[str, Keyword]:
    """What the edits take beside an image, its label, the seed and the sampler's options."""
    return keywords_of(EDITS, given=("label", "seed"))


def keywords_for(what: str) -> dict[str, Keyword]:
    """What one edit takes; ValueError if there is no such edit."""
    choose(EDITS, what, "edit")
    return {name: word for name, word in edit_keywords().items() if what in word.entries}


def options_for(pipeline: Pipeline, request: Retouch) -> dict[str, Any]:
    """The edit's own options, read; an image of the run's data brings its own label.

    ValueError if the edit does not know one, or if one that it needs is missing.
    """
    known = keywords_for(request.what)
    for key in request.options:
        if key not in known:
            shown = ", ".join(word.option for word in known.values())
            raise ValueError(f"{request.what} has no {option_name(key)} (known: {shown})")
    for key, word in known.items():
        if request.what in word.required_by and key not in request.options:
            raise ValueError(f"{request.what} needs {word.option}")
    options: dict[str, Any] = {}
    for key, value in request.options.items():
        written = known[key].mark(type)
        if known[key].kind is not Tensor:
            options[key] = pipeline.label(value) if written is str else value
        elif written is Path:
            options[key] = mask_of(pipeline, str(value), request.images, request.resize)
        else:
            options[key], own = picture_of(pipeline, value, request.resize)
            if own is not None and f"{key}_label" in known.keys() - request.options.keys():
                options[f"{key}_label"] = own
    return options


def _label(pipeline: Pipeline, given: str | None, own: int | None, name: str) -> int:
    if given is not None:
        return pipeline.label(given)
    if own is None:
        raise ValueError(
            f"{name} has no label of its own: pass --label, "
            f"one of {listed(pipeline.class_names, 10)}"
        )
    return own


def _say_what_grew(edit: Edit, options: Mapping[str, Any]) -> None:
    """Tell if more pixels were drawn than the mask or the box asked for."""
    if "mask" in options:
        asked = int(options["mask"].sum())
    elif "box" in options:
        left, top, right, bottom = options["box"]
        asked = (right - left) * (bottom - top)
    else:
        return
    drawn = int(edit.changed.sum())
    if drawn > asked:
        message = f"the mask cuts cells: it grew to whole ones, {asked} -> {drawn} pixels"
        print(message, file=sys.stderr)


def _write_edits(name: str, edits: Sequence[Edit], outputs: Outputs) -> list[Path]:
    """One file, or one for each frame in a folder."""
    if outputs.out is None:
        return []
    pictures = [to_pil(to_float(edit.image)) for edit in edits]
    if outputs.one_file:
        return [save_png(pictures[0], outputs.out)]
    titles = [f"{name}_frame-{k}" for k in range(len(edits))] if len(edits) > 1 else [name]
    return [
        save_png(picture, outputs.out / f"{title}.png")
        for title, picture in zip(titles, pictures, strict=True)
    ]


def _write_pairs(found: Sequence[tuple[str, list[Edit]]], path: Path | None) -> list[Path]:
    """A row for each edit: before, with the part to be drawn in grey, and after (all frames)."""
    if path is None:
        return []
    names = [name for name, _ in found]
    firsts = [edits[0] for _, edits in found]
    hidden = [torch.where(one.changed, 127, one.before).to(torch.uint8) for one in firsts]
    parts = not all(bool(one.changed.all()) for one in firsts)
    rows = [
        torch.stack([first.before, *([grey] if parts else []), *(edit.image for edit in edits)])
        for first, grey, (_, edits) in zip(firsts, hidden, found, strict=True)
    ]
    if len(rows) > 4 and len(rows[0]) <= 3:
        rows, names = _in_two_columns(rows), []
    grid = image_grid(to_float(torch.cat(rows)), num_columns=len(rows[0]), row_names=names)
    return [save_png(grid, path)]


def _in_two_columns(rows: Sequence[Tensor]) -> list[Tensor]:
    """Rows (n, channels, height, width), the second half beside the first, with a white gap."""
    half = -(-len(rows) // 2)
    white = torch.full_like(rows[0], 255)
    seconds = [*rows[half:], white][:half]
    return [torch.cat((a, white[:1], b)) for a, b in zip(rows[:half], seconds, strict=True)]


def _write_views(
    pipeline: Pipeline,
    name: str,
    edits: Sequence[Edit],
    views: Views,
) -> list[Path]:
    """The rounds of an edit; of several frames, of the middle one of those with hidden cells."""
    if not views:
        return []
    by_place = sorted(range(len(edits)), key=lambda k: abs(k - len(edits) // 2))
    drawn = [edits[k] for k in by_place if len(edits[k].rounds) > 1]
    if not drawn:
        print("no cell was hidden: there are no rounds to show", file=sys.stderr)
        return []
    return views.draw(*rounds_shown(pipeline, drawn[0]), [name])


def rounds_shown(pipeline: Pipeline, edit: Edit) -> tuple[Tensor, Tensor]:
    """An edit's images (1, 1 + rounds, c, height, width) and confidence (1, rounds, h, w)."""
    rounds: list[Filled] = edit.rounds
    images = frames(pipeline, [found.codes for found in rounds])
    images = torch.where(edit.changed, images, to_float(edit.before))
    images[:, -1] = to_float(edit.image)
    return images, torch.stack([found.confidence for found in rounds[1:]], 1)
