"""A pipeline at work for a page: grids that fill, edits, thumbnails, and files of what was made."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maskgit.data.pixels import to_float, to_pil
from maskgit.editing import EDITS, Edit, box_mask, rounds_shown
from maskgit.pictures import image_grid
from maskgit.pipeline import Pipeline, Settings, Views, decoded, frames, watched
from maskgit.precision import PRECISIONS
from maskgit.samplers import CRITICS, SAMPLERS, critic_of
from maskgit.serving.asked import (
    LARGEST_SEED,
    DrawAsked,
    EditAsked,
    Limits,
    asked_by,
    draw_asked,
    edit_asked,
    guided,
    opened,
    thumbs_asked,
)
from maskgit.serving.shown import address, png, tiles, written
from maskgit.serving.worker import Tell, Worker
from maskgit.serving.written import draw_command, draw_python, edit_command, edit_python
from maskgit.stopping import unless_stopped
from vqgan.chunks import in_chunks
from vqgan.registry import choose

Event = dict[str, Any]
"""What a page is told, JSON values."""
REMEMBERED = 8
"""Requests whose results are kept, so that their files need not be drawn again."""
FREE_SECONDS = 0.3
"""What showing rounds may take at first; afterwards no more than drawing them."""


class Drawn(NamedTuple):
    """The images of a request."""

    images: Tensor  # (n, channels, height, width) in [-1, 1]


class Studio:
    """What the functions of the page do; each is given and gives text in JSON, or JSON values.

    run: the name of the pipeline, as commands are given it.
    """

    def __init__(self, pipeline: Pipeline, run: str, limits: Limits | None = None) -> None:
        self.pipeline, self.run, self.limits = pipeline, run, limits or Limits()
        self.worker = Worker()
        self.made: OrderedDict[DrawAsked | EditAsked, Drawn | Edit] = OrderedDict()
        self.thumbnails: dict[int, str] = {}

    def about(self) -> Event:
        """What the page has to know of the pipeline before anything is drawn."""
        pipeline = self.pipeline
        tokenizer = pipeline.tokenizer
        critics = {name for name in CRITICS.values() if getattr(pipeline.model, name) is not None}
        return {
            "run": self.run,
            "classes": list(pipeline.class_names),
            "size": tokenizer.image_size,
            "channels": tokenizer.channels,
            "cell": tokenizer.downscale,
            "places": tokenizer.has_places,
            "parameters": sum(weights.numel() for weights in pipeline.model.parameters()),
            "guided": guided(pipeline),
            "samplers": [
                name for name, one in SAMPLERS.items() if critic_of(one) in (None, *critics)
            ],
            "presets": {name: _told(pipeline.settings(preset=name)) for name in pipeline.presets},
            "own": _told(pipeline.settings()),
            "limits": {**asdict(self.limits), "seed": LARGEST_SEED},
        }

    def draw(self, text: str) -> Iterator[Event]:
        """The images of a request in JSON, after each round; ValueError in a line."""
        asked = draw_asked(text, self.pipeline, self.limits)
        yield from self.worker.told(lambda tell: self._draw(asked, tell))

    def edit(self, text: str) -> Iterator[Event]:
        """The picture of a request in JSON, after each round; ValueError in a line."""
        asked = edit_asked(text, self.pipeline, self.limits)
        yield from self.worker.told(lambda tell: self._edit(asked, tell))

    def open(self, text: str) -> Iterator[Event]:
        """A file of the visitor's, in JSON as {image}, as the model sees it: cut to its size."""
        image = opened(text, self.pipeline, self.limits)
        yield {"image": address(png(to_pil(to_float(image))))}

    def file(self, kind: str, text: str) -> Iterator[Event]:
        """A file of what was drawn or edited: its name, and its bytes as an address."""
        make = choose(FILES, kind, "file")
        asked = asked_by(text, self.pipeline, self.limits)

        def work(tell: Tell) -> None:
            if asked not in self.made:
                if isinstance(asked, EditAsked):
                    self._edit(asked, lambda event: None)
                else:
                    self._draw(asked, lambda event: None)
            data = make(self, asked, self.made[asked])
            mime = "image/gif" if kind.endswith(".gif") else "image/png"
            edited = isinstance(asked, EditAsked) and kind == "grid.png"
            tell({"name": "edited.png" if edited else kind, "address": address(data, mime)})

        yield from self.worker.told(work)

    def thumbs(self, text: str) -> Iterator[list[str]]:
        """Addresses of a picture of each class, of seed 0 and the pipeline's own settings."""
        wanted = thumbs_asked(text, self.pipeline, self.limits)

        def work(tell: Tell) -> None:
            new = sorted({*wanted} - {*self.thumbnails})
            if new:
                images = torch.stack(list(self.pipeline.stream(new, [0] * len(new))))
                self.thumbnails |= dict(zip(new, tiles(images), strict=True))
            tell([self.thumbnails[label] for label in wanted])

        yield from self.worker.told(work)

    def _draw(self, asked: DrawAsked, tell: Tell) -> None:
        pipeline, items, clock = self.pipeline, asked.items, Clock()
        settings = pipeline.settings(**asked.drawing.given)
        rounds = settings.sampler.get("steps", 1)
        grid = pipeline.net.grid
        size = pipeline.at_once(None, grid)
        parts = -(-len(items) // size)
        done: list[Tensor] = []

        def draw(part: slice) -> list[Tensor]:
            labels, seeds = map(list, zip(*items[part], strict=True))
            codes = None
            filling = unless_stopped(pipeline.rounds(labels, seeds, **asked.drawing.given))
            for number, codes in enumerate(filling):
                clock.drew()
                event: Event = {"round": len(done) * rounds + number + 1, "rounds": parts * rounds}
                if clock.may_show():
                    event |= {"first": part.start, "images": tiles(frames(pipeline, [codes])[:, 0])}
                    clock.showed()
                tell(event)
            assert codes is not None
            images = list(decoded(pipeline.tokenizer, codes, PRECISIONS[pipeline.precision]))
            done.append(codes)
            return images

        tell({"round": 0, "rounds": parts * rounds, "count": len(items)})
        images = torch.stack([one for found in in_chunks(draw, len(items), size) for one in found])
        self._remember(asked, Drawn(images))
        said = self.run, pipeline.precision
        tell({
            "done": True,
            "first": 0,
            "images": tiles(images),
            "labels": [label for label, _ in items],
            "seeds": [seed for _, seed in items],
            "settings": _words_of(settings),
            "seconds": round(clock.total(), 2),
            "command": draw_command(asked, pipeline, *said),
            "python": draw_python(asked, pipeline, *said),
        })  # fmt: skip

    def _edit(self, asked: EditAsked, tell: Tell) -> None:
        pipeline, clock = self.pipeline, Clock()
        before, changed = _canvas(asked, pipeline)
        settings = pipeline.settings(**asked.drawing.given)
        numbers = iter(range(1, 2**31))

        def told(codes: Tensor) -> None:
            clock.drew()
            event: Event = {"round": next(numbers)}
            if clock.may_show():
                shown = frames(pipeline, [codes])[:, 0]
                event["images"] = tiles(torch.where(changed, shown, to_float(before)))
                clock.showed()
            tell(event)

        tell({"round": 0, "count": 1})
        [edit] = EDITS[asked.what](
            pipeline,
            asked.image,
            label=asked.label,
            seed=asked.seed,
            told=told,
            **asked.own,
            **asked.drawing.given,
        )
        self._remember(asked, edit)
        said = self.run, pipeline.precision
        tell({
            "done": True,
            "images": tiles(to_float(edit.image)[None]),
            "before": address(png(to_pil(to_float(asked.image)))),
            "mask": address(_mask_file(asked)) if asked.mask is not None else None,
            "settings": _words_of(settings),
            "seconds": round(clock.total(), 2),
            "command": edit_command(asked, pipeline, *said),
            "python": edit_python(asked, pipeline, *said),
        })  # fmt: skip

    def _remember(self, asked: DrawAsked | EditAsked, found: Drawn | Edit) -> None:
        self.made[asked] = found
        while len(self.made) > REMEMBERED:
            self.made.popitem(last=False)


class Clock:
    """How long rounds took to draw, and to show: showing them may at most double the time."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()
        self.drawing = self.showing = 0.0

    def _passed(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before

    def drew(self) -> None:
        """A round was drawn."""
        self.drawing += self._passed()

    def showed(self) -> None:
        """Its picture was made."""
        self.showing += self._passed()

    def may_show(self) -> bool:
        """Whether there is time to make its picture."""
        return self.showing <= max(FREE_SECONDS, self.drawing)

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.start


def _canvas(asked: EditAsked, pipeline: Pipeline) -> tuple[Tensor, Tensor]:
    """What is edited, uint8 (channels, height, width), and which of its pixels may change."""
    image, own = asked.image, asked.own
    height, width = image.shape[1:]
    if asked.margins is not None:
        left, top, right, bottom = asked.margins
        sides = (left, right, top, bottom)
        inside = F.pad(torch.zeros(height, width), sides, value=1.0).bool()
        return F.pad(image, sides, value=127), inside
    if asked.what == "variation":
        return image, torch.ones(height, width, dtype=torch.bool)
    mask = own["mask"] if "mask" in own else box_mask(height, width, own["box"])
    tokenizer = pipeline.tokenizer
    return image, tokenizer.pixels_of(tokenizer.codes_of(mask))


def _mask_file(asked: EditAsked) -> bytes:
    return png(to_pil(asked.own["mask"][None].float() * 2 - 1))


def _told(settings: Settings) -> Event:
    """The settings that the page has controls for."""
    sampler, guidance = settings.sampler, settings.guidance
    temperature = sampler.get("temperature")
    return {
        "sampler": sampler["name"],
        "steps": sampler.get("steps"),
        "guidance": guidance.get("scale", 1.0),
        "temperature": temperature if isinstance(temperature, int | float) else None,
    }


def _words_of(settings: Settings) -> str:
    """`confidence · 12 rounds · guidance 2`."""
    steps = settings.sampler.get("steps")
    scale = settings.guidance.get("scale", 1.0)
    words = [settings.sampler["name"]]
    words += [f"{steps} round{'s' * (steps > 1)}"] if steps else []
    words += [f"guidance {scale:g}"] if scale != 1 else []
    return " · ".join(words)


def _grid_file(studio: Studio, asked: DrawAsked | EditAsked, found: Drawn | Edit) -> bytes:
    if isinstance(found, Edit):
        return png(to_pil(to_float(found.image)))
    assert isinstance(asked, DrawAsked)
    names = [studio.pipeline.class_names[label] for label in asked.labels]
    return png(image_grid(found.images, num_columns=asked.per_label, row_names=names))


def _view_file(name: str) -> Callable[[Studio, Any, Any], bytes]:
    """The strip or the moving picture: the rounds of an edit, or of the first of each class."""

    def make(studio: Studio, asked: DrawAsked | EditAsked, found: Drawn | Edit) -> bytes:
        pipeline = studio.pipeline
        if isinstance(asked, EditAsked):
            assert isinstance(found, Edit)
            names = [f"before_{asked.seed:06d}"]
            images, confidence = rounds_shown(pipeline, found)
        else:
            firsts = asked.items[:: asked.per_label]
            names = [pipeline.class_names[label] for label, _ in firsts]
            labels, seeds = map(list, zip(*firsts, strict=True))
            images, confidence = watched(pipeline, labels, seeds, **asked.drawing.given)
        return written(
            lambda path: Views(**{name: path}).draw(images, confidence, names), FILE_NAMES[name]
        )

    return make


FILE_NAMES = {"strip": "strip.png", "gif": "fill.gif"}
FILES: Mapping[str, Callable[[Studio, Any, Any], bytes]] = {
    "grid.png": _grid_file,
    "strip.png": _view_file("strip"),
    "fill.gif": _view_file("gif"),
}
"""name -> the bytes of that file of a request and what came of it."""
