"""Requests of the command line -> PNG files, with a progress bar, over all processes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from maskgit.data.npz import write_npz
from maskgit.data.order import chunks_of
from maskgit.data.pixels import save_png, to_pil, to_uint8
from maskgit.pictures import image_grid
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.pipeline.views import Views, watched
from maskgit.processes import gather_rows, share_out, this_process


@dataclass(frozen=True)
class Request:
    """Which images: `per_label` of each label, seeds from `seed` on; options are the sampler's."""

    labels: list[int]
    per_label: int
    seed: int
    batch_size: int
    options: dict[str, Any]

    def items(self) -> list[tuple[int, int]]:
        """(label, seed) of every image."""
        many = [label for label in self.labels for _ in range(self.per_label)]
        return [(label, self.seed + number) for number, label in enumerate(many)]


def load_pipeline(run: Path, precision: str = "fp32") -> Pipeline:
    """The pipeline of a run, on this process's device."""
    return Pipeline.from_pretrained(run).to(this_process().device, precision=precision)


def warn_of_preset(pipeline: Pipeline, run: Path, name: str | None) -> None:
    """Say so if a preset was found on other weights than these."""
    preset = pipeline.presets.get(name or "")
    if (
        preset is not None
        and preset.measured.get("weights", there := pipeline_hashes(run)) != there
    ):
        print(
            f"warning: the preset {name} was tuned on other weights: "
            "`maskgit tune` finds a new one",
            file=sys.stderr,
        )


def draw_grid(pipeline: Pipeline, request: Request, out: Path) -> Path | None:
    """One picture with a named row for each label; the main process draws it."""
    if not this_process().is_main_process:
        return None
    images = stream_items(
        pipeline, request.items(), batch_size=request.batch_size, **request.options
    )
    names = [pipeline.class_names[label] for label in request.labels]
    return save_png(
        image_grid(torch.stack(list(images)), num_columns=request.per_label, row_names=names), out
    )


def draw_images(pipeline: Pipeline, request: Request, out: Path) -> list[Path]:
    """`out/<label>_<class>_<seed>.png` for each image; process r of n draws every n-th."""
    state = this_process()
    mine = request.items()[state.process_index :: state.num_processes]
    paths = []
    images = stream_items(pipeline, mine, batch_size=request.batch_size, **request.options)
    for (label, seed), image in zip(mine, images, strict=True):
        name = "".join(c if c.isalnum() else "-" for c in pipeline.class_names[label])
        paths.append(save_png(to_pil(image), out / f"{label:03d}_{name}_{seed:06d}.png"))
    state.wait_for_everyone()
    return paths


def draw_npz(pipeline: Pipeline, request: Request, out: Path) -> Path | None:
    """ADM's sample file, what other programs read: uint8 (n, height, width, 3) and labels."""
    items, tokenizer = request.items(), pipeline.tokenizer
    size = pipeline.grid_of(request.options.get("height"), request.options.get("width"))
    shape = (len(items), tokenizer.channels, *tokenizer.size_of(size))
    rows = (found.unflatten(1, shape[1:]) for found in _gathered_rows(pipeline, request))
    if this_process().is_main_process:
        return write_npz(out, rows, shape, [label for label, _ in items])
    for _ in rows:  # the part that the main process waits for
        pass
    return None


def _gathered_rows(pipeline: Pipeline, request: Request) -> Iterator[Tensor]:
    """All images in their order, as rows uint8 (n, numbers); the processes share the work."""
    items, size = request.items(), request.batch_size
    with _progress(len(items)) as bar:
        for _, chunk in share_out(chunks_of(len(items), size)):
            mine = [] if chunk is None else items[chunk.start : chunk.stop]
            images = _stream(pipeline, mine, batch_size=size, **request.options)
            rows = [to_uint8(image).flatten() for image in images]
            found = gather_rows(torch.stack(rows) if rows else torch.empty(0, 1, dtype=torch.uint8))
            bar.update(len(found))
            yield found


def draw_views(pipeline: Pipeline, request: Request, views: Views) -> list[Path]:
    """The first image of each label, round by round; the main process draws it."""
    if not this_process().is_main_process or not views:
        return []
    firsts = request.items()[:: request.per_label]
    parts = []
    for chunk in chunks_of(len(firsts), request.batch_size):
        labels, seeds = map(list, zip(*firsts[chunk.start : chunk.stop], strict=True))
        parts.append(watched(pipeline, labels, seeds, **request.options))
    images, confidence = (torch.cat(part) for part in zip(*parts, strict=True))
    return views.draw(images, confidence, [pipeline.class_names[label] for label, _ in firsts])


def stream_items(
    pipeline: Pipeline,
    items: list[tuple[int, int]],
    *,
    batch_size: int,
    **options: Any,
) -> Any:
    """Images (channels, height, width) of (label, seed) pairs; the main process shows a bar."""
    return _progress(len(items), _stream(pipeline, items, batch_size=batch_size, **options))


def _stream(pipeline: Pipeline, items: list[tuple[int, int]], **options: Any) -> Iterator[Tensor]:
    labels, seeds = [label for label, _ in items], [seed for _, seed in items]
    return pipeline.stream(labels, seeds, **options)


def _progress(total: int, images: Iterable[Tensor] | None = None) -> Any:
    """A progress bar on the main process."""
    silent = not this_process().is_main_process
    return tqdm(images, total=total, unit="image", desc="sample", disable=silent)
