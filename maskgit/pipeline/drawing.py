"""Requests of the command line -> PNG files, with a progress bar, over all processes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from maskgit.data.npz import write_npz
from maskgit.data.order import chunks_of
from maskgit.data.pixels import is_whole_png, save_png, save_pngs, to_pil, to_uint8
from maskgit.data.sources import readable_suffixes
from maskgit.machine import usual_batch
from maskgit.pictures import image_grid
from maskgit.pipeline.asked import at_least_one, check_seed
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.pipeline.views import Views, watched
from maskgit.processes import cpu_only, gather_rows, held, on_main, share_out, this_process
from vqgan.chunks import in_chunks
from vqgan.files import replacing
from vqgan.weights import hash_of

FORMAT = "maskgit-samples-1"
WORTH_COMPILING = 50_000
"""Images of a process: a minute is then won by a quarter of the time of each (an H200)."""
SAMPLE_NAME = re.compile(r"(\d{3,})_(.+)_\d{6,}")
"""What `draw_images` calls its files, without the suffix."""


@dataclass(frozen=True)
class Request:
    """Which images: `per_label` of each label, seeds from `seed` on; options are the sampler's."""

    labels: list[int]
    per_label: int
    seed: int
    batch_size: int | None  # as in Pipeline.at_once
    options: dict[str, Any]

    def __post_init__(self) -> None:
        at_least_one(per_label=self.per_label, batch_size=self.batch_size)
        check_seed(self.seed)

    def items(self) -> list[tuple[int, int]]:
        """(label, seed) of every image."""
        many = [label for label in self.labels for _ in range(self.per_label)]
        return [(label, self.seed + number) for number, label in enumerate(many)]


def class_grid(
    pipeline: Pipeline, labels: Sequence[int], num_columns: int, seed: int = 0, **options: Any
) -> Image.Image:
    """A picture with a named row for each label; the seeds run on from `seed` along the rows."""
    many = [label for label in labels for _ in range(num_columns)]
    images = torch.stack(list(pipeline.stream(many, range(seed, seed + len(many)), **options)))
    return image_grid(
        images, num_columns=num_columns, row_names=[pipeline.class_names[label] for label in labels]
    )


def load_pipeline(run: Path, precision: str | None = "fp32") -> Pipeline:
    """The pipeline of a run, on this process's device; by default in fp32.

    precision: fp32, bf16 or auto; none: the quicker one on accelerators, fp32 on CPUs.
    """
    precision = precision or ("fp32" if cpu_only() else "auto")
    return Pipeline.from_pretrained(run).to(this_process().device, precision=precision)


def compile_for(pipeline: Pipeline, request: Request, wanted: bool | None) -> None:
    """Compile a pipeline, if that is wanted; none: where it pays, for so many images."""
    count = len(request.labels) * request.per_label // this_process().num_processes
    if wanted is None:
        wanted = not cpu_only() and count >= WORTH_COMPILING
    if wanted:
        print("compiling the model: about a minute", file=sys.stderr, flush=True)
        pipeline.compile()


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
    """`out/<label>_<class>_<seed>.png` for each image; process r of n draws every n-th.

    The folder says in samples.json what it holds: those that are there already are not drawn
    again, and images of another request are not added (ValueError).
    """
    state = this_process()
    with held(out, "sample"):
        on_main(lambda: _claim(out, _said_of(pipeline, request)))
        mine = request.items()[state.process_index :: state.num_processes]
        paths = {item: out / file_name(pipeline.class_names, *item) for item in mine}
        left = [item for item in mine if not is_whole_png(paths[item])]
        images = stream_items(pipeline, left, batch_size=request.batch_size, **request.options)
        save_pngs((paths[item], to_pil(image)) for item, image in zip(left, images, strict=True))
        state.wait_for_everyone()
    return list(paths.values())


def file_name(class_names: Sequence[str], label: int, seed: int) -> str:
    """`003_ankle-boot_000017.png`."""
    return f"{label:03d}_{_plain(class_names[label])}_{seed:06d}.png"


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def label_in(path: Path, class_names: Sequence[str]) -> int | None:
    """The label in the name of a sample's file; none if that is not one of these classes'."""
    match = SAMPLE_NAME.fullmatch(path.stem)
    if match is None or int(match[1]) >= len(class_names):
        return None
    return int(match[1]) if match[2] == _plain(class_names[int(match[1])]) else None


def _said_of(pipeline: Pipeline, request: Request) -> dict[str, Any]:
    """All that samples depend on, in JSON values."""
    others = ("height", "width", "negative")
    settings = {key: value for key, value in request.options.items() if key not in others}
    state = {**pipeline.model.state_dict(), **pipeline.tokenizer.state_dict(prefix="tokenizer.")}
    found = {
        "format": FORMAT,
        "weights": hash_of("", state),
        "labels": request.labels,
        "class_names": [pipeline.class_names[label] for label in request.labels],
        "per_label": request.per_label,
        "seed": request.seed,
        "settings": pipeline.settings(**settings)._asdict(),
        **{key: request.options.get(key) for key in others},
        "precision": pipeline.precision,
    }
    return dict(json.loads(json.dumps(found)))


def _claim(out: Path, wanted: Mapping[str, Any]) -> None:
    """Write samples.json; ValueError if the folder holds samples of another request, or of none."""
    path = out / "samples.json"
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): choose another --out") from error
    if found == wanted:
        return
    if isinstance(found, dict):
        key = next(key for key in wanted if found.get(key) != wanted[key])
        raise ValueError(
            f"{out} holds samples of another request ({key}: {found.get(key)}, now "
            f"{wanted[key]}): choose another --out"
        )
    if other := next((p for p in out.iterdir() if p.suffix.lower() in readable_suffixes()), None):
        raise ValueError(
            f"{out} holds images that do not say what they are of ({other.name}): choose another "
            "--out"
        )
    with replacing(path) as aside:
        aside.write_text(json.dumps(wanted, indent=1) + "\n")


def draw_npz(pipeline: Pipeline, request: Request, out: Path) -> Path | None:
    """ADM's sample file, what other programs read: uint8 (n, height, width, 3 or 4), labels."""
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
    items, size = request.items(), request.batch_size or usual_batch()  # the same for all
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

    def watch(part: slice) -> tuple[Tensor, Tensor]:
        labels, seeds = map(list, zip(*firsts[part], strict=True))
        return watched(pipeline, labels, seeds, **request.options)

    grid = pipeline.grid_of(request.options.get("height"), request.options.get("width"))
    parts = in_chunks(watch, len(firsts), pipeline.at_once(request.batch_size, grid))
    images, confidence = (torch.cat(part) for part in zip(*parts, strict=True))
    return views.draw(images, confidence, [pipeline.class_names[label] for label, _ in firsts])


def stream_items(
    pipeline: Pipeline,
    items: list[tuple[int, int]],
    *,
    batch_size: int | None,
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
