"""Time to quality: the same wall time for our pipeline and for the plain one, on Fashion-MNIST.

Both are trained, one right after the other; then both are drawn, each by the settings that a scout
finds best, and measured as by `evaluate`.

out/ours/ out/plain/ (results of `maskgit evaluate`)  ours.png  plain.png (ten of each class)
out/quality.json  quality.md

Run again, it does only what is not there yet (ours_trained.json, plain_trained.json, ours.json,
plain.json): so both may be trained on one machine and drawn on another, to which `out` was copied.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import torch

from maskgit.benchmark.fair import with_perceptual
from maskgit.benchmark.judging import FEW, SCOUT, Panel, Side, judged, kinds, worst_ratio
from maskgit.benchmark.plain import PlainPipeline
from maskgit.config.loading import find_config, load, to_dict
from maskgit.config.sections import Config, MaskGITConfig, TokenizerConfig
from maskgit.data.codes import CodeDataset
from maskgit.data.npz import write_npz
from maskgit.data.order import chunks_of
from maskgit.data.pixels import save_png, to_float, to_uint8
from maskgit.data.tokenization import tokenize_dataset
from maskgit.evaluation.image_sets import from_npz, from_pipeline, from_source
from maskgit.evaluation.plan import data_of
from maskgit.evaluation.tables import kept, markdown, shown, write_json, write_text
from maskgit.pictures import image_grid
from maskgit.pipeline.drawing import load_pipeline
from maskgit.processes import this_process
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train

CALIBRATION = 60
OVERRIDES: dict[str, list[str]] = {"classifier": [], "vqgan": [], "maskgit": [], "witness": []}
"""Of the configs; tests make them small."""
CHOICES = ((1.0, 0.7), (1.0, 0.9), (4.0, 0.9), (8.0, 0.9), (16.0, 0.9), (32.0, 0.9))
"""(start_temperature, filter_thres) of the plain sampler; the first are its defaults."""
OUR_CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"guidance": {"scale": 3.0, "schedule": "linear"}},
    {"guidance": {"scale": 4.0, "schedule": "linear"}},
)
"""Options of our sampler; the first are the config's."""


class _Clock:
    """How long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        print(f"== {name}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        result = work()
        self.seconds[name] = time.perf_counter() - start
        return result

    def kept(
        self, path: Path, made_of: Mapping[str, Any], work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """As `maskgit.evaluation.tables.kept`, with the seconds of all stages up to then."""
        found = kept(path, made_of, lambda: work() | {"seconds": dict(self.seconds)})
        self.seconds = found["seconds"] | self.seconds
        return dict(found)


class _Place(NamedTuple):
    """A data set, and where everything of it lies."""

    data: str
    out: Path
    clock: _Clock

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        data = data_of(f"{self.data}/vqgan")
        return (data.channels, data.image_size, data.image_size)


def run_quality(
    minutes: Sequence[float], count: int, out: Path, data: str = "fashion_mnist"
) -> str:
    """Train both, draw `count` samples of each and measure them -> a table.

    minutes: of the tokenizer and of the generator.
    """
    place = _Place(data, out, _Clock())
    place.clock.run("classifiers", partial(Panel(data, out).train, OVERRIDES))
    recipe = {stage: to_dict(load(f"{data}/{stage}", more)) for stage, more in OVERRIDES.items()}
    seen_by = {"kinds": kinds(), "witness": recipe.pop("witness"), "scout": SCOUT}
    made_of = {"minutes": minutes, "data": data, "configs": recipe}
    trained, lines = {}, {}
    for side, training in (("ours", train_ours), ("plain", train_plain)):
        work = partial(training, place, [60 * m for m in minutes])
        trained[side] = place.clock.kept(out / f"{side}_trained.json", made_of, work)
    for side, drawing, choices in (
        ("ours", draw_ours, OUR_CHOICES),
        ("plain", draw_plain, CHOICES),
    ):
        drawn_of = {"trained": trained[side], "count": count, "choices": choices, "few": FEW}
        drawn_of |= seen_by
        work = partial(drawing, place, count)
        drawn = place.clock.kept(out / f"{side}.json", drawn_of, work)
        lines[side] = drawn["numbers"] | {"steps": trained[side]["steps"]}
    return _report(lines, place.clock.seconds, out)


def _steps_for(config: Config, seconds: float, out: Path) -> Config:
    """The config with as many steps as fit, by the speed of a short run that is removed again."""
    scratch = out / "calibration"
    shutil.rmtree(scratch, ignore_errors=True)
    never = dict.fromkeys(("eval_every", "preview_every", "save_every"), 10**9)
    few = config.train.model_copy(update={"steps": CALIBRATION, "trackers": (), **never})
    train(config.model_copy(update={"run": str(scratch), "train": few}))
    rows = [row for row in read_metrics(scratch / "metrics.jsonl") if "loss" in row][2:]
    shutil.rmtree(scratch)
    key, cells = "images_per_second", 1
    if isinstance(config, MaskGITConfig):
        key, cells = "cells_per_second", math.prod(CodeDataset(config.codes, "train").grid)
    rate = median(row[key] for row in rows) / (config.train.batch_size * cells)
    steps = int(0.96 * rate * seconds)  # the rest is for validation, previews and checkpoints
    often = max(1, steps // 4)
    found = {"steps": steps, "eval_every": steps, "preview_every": often, "save_every": often}
    return config.model_copy(update={"train": config.train.model_copy(update=found)})


def train_ours(place: _Place, seconds: Sequence[float]) -> dict[str, Any]:
    """The configs of the data set, with as many steps as fit.

    What the tokenizer's perceptual loss sees is trained within the tokenizer's time.
    """
    data, out, clock = place
    folders = {"run": f"{out}/maskgit", "tokenizer": f"{out}/vqgan", "codes": f"{out}/codes"}
    places = [f"{key}={value}" for key, value in folders.items()]
    maskgit = cast(MaskGITConfig, load(f"{data}/maskgit", [*places, *OVERRIDES["maskgit"]]))
    seen = out / "perceptual"
    for path in (*folders.values(), str(seen)):
        shutil.rmtree(path, ignore_errors=True)
    perceptual = partial(with_perceptual, data, seen, *OVERRIDES["classifier"])
    first = clock.run("ours: perceptual", perceptual)
    found = load(f"{data}/vqgan", [f"run={folders['tokenizer']}", *first, *OVERRIDES["vqgan"]])
    rest = max(1.0, seconds[0] - clock.seconds["ours: perceptual"])
    vqgan = cast(TokenizerConfig, _steps_for(cast(TokenizerConfig, found), rest, out))
    clock.run("ours: tokenizer", lambda: train(vqgan))
    clock.run("ours: tokenise", lambda: tokenize_dataset(vqgan.run, maskgit.codes))
    maskgit = cast(MaskGITConfig, _steps_for(maskgit, seconds[1], out))
    clock.run("ours: generator", lambda: train(maskgit))
    return {"steps": f"{vqgan.train.steps} + {maskgit.train.steps}"}


def draw_ours(place: _Place, count: int) -> dict[str, Any]:
    """With the best of OUR_CHOICES."""
    pipeline = load_pipeline(place.out / "maskgit")

    def draw(choice: Mapping[str, Any], number: int, seed: int, path: Path) -> Path:
        images = from_pipeline(pipeline, number, seed=seed, options=choice)
        shape, labels = (number, *place.shape), images.labels
        assert labels is not None
        return write_npz(path, images.read(chunks_of(number, 100)), shape, labels.tolist())

    return _judged(place, Side("ours", pipeline.tokenizer, OUR_CHOICES, draw), count)


def _judged(place: _Place, side: Side, count: int) -> dict[str, Any]:
    """Its numbers, and ten samples of each class."""
    work = partial(judged, Panel(place.data, place.out), side, count)
    found: dict[str, Any] = place.clock.run(f"{side.name}: draw and measure", work)
    names = load_pipeline(place.out / "maskgit").class_names
    columns = max(1, min(10, count // len(names)))
    _draw_grid(Path(found["samples"]), columns, names, place.out / f"{side.name}.png")
    return {"numbers": found["numbers"]}


def _plain(data: str) -> PlainPipeline:
    """The plain pipeline, untrained, on the images of DATA/vqgan."""
    config = cast(TokenizerConfig, load(find_config(f"{data}/vqgan"))).data
    source = from_source(config, "train")
    images = torch.cat(list(source.read(chunks_of(source.num_images, 1000))))
    assert source.labels is not None
    labels, num_classes = torch.from_numpy(source.labels), int(source.labels.max()) + 1
    return PlainPipeline(images, labels, num_classes, this_process().device, flip=config.flip)


def train_plain(place: _Place, seconds: Sequence[float]) -> dict[str, Any]:
    """For exactly as long as ours took, of which `seconds` is only the plan."""
    plain, clock = _plain(place.data), place.clock
    ours = {x: clock.seconds[f"ours: {x}"] for x in ("perceptual", "tokenizer", "generator")}
    for_tokenizer = ours["perceptual"] + ours["tokenizer"]
    first = clock.run("plain: tokenizer", lambda: plain.train_tokenizer(for_tokenizer))
    clock.run("plain: tokenise", plain.tokenize)
    second = clock.run("plain: generator", lambda: plain.train_generator(ours["generator"]))
    plain.save(place.out / "plain.safetensors")
    return {"steps": f"{first} + {second}"}


def draw_plain(place: _Place, count: int) -> dict[str, Any]:
    """With the best of CHOICES."""
    plain = _plain(place.data)
    plain.load(place.out / "plain.safetensors")

    def draw(choice: tuple[float, float], number: int, seed: int, path: Path) -> Path:
        labels = torch.arange(number) % plain.num_classes
        torch.manual_seed(seed)
        heat, share = choice
        parts = (
            to_uint8(plain.sample(part, start_temperature=heat, filter_thres=share))
            for part in labels.split(100)
        )
        return write_npz(path, parts, (number, *place.shape), labels.tolist())

    return _judged(place, Side("plain", plain.vqvae, CHOICES, draw), count)


def _draw_grid(samples: Path, num_columns: int, names: Sequence[str], path: Path) -> None:
    """A row for each class, of samples of all classes in turn."""
    shape = (num_columns, len(names))
    many = torch.cat(list(from_npz(samples, channels=1).read([range(math.prod(shape))])))
    rows = many.unflatten(0, shape).transpose(0, 1).flatten(0, 1)
    save_png(image_grid(to_float(rows), num_columns=num_columns, row_names=names), path)


def _report(lines: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, float], out: Path) -> str:
    """quality.json and quality.md."""
    write_json(out / "quality.json", {"lines": lines, "seconds": seconds})
    names = [name for name, value in lines["ours"].items() if isinstance(value, dict)]
    rows = [
        [
            side,
            *(shown(line[name]["value"], line[name]["half_width"]) for name in names),
            line["steps"],
        ]
        for side, line in lines.items()
    ]
    floors = [lines["ours"][name]["floor"] for name in names]
    rows.append(["real images", *("" if f is None else shown(f) for f in floors), ""])
    text = "\n".join(
        [
            markdown(["", *names, "steps"], rows),
            "",
            worst_ratio(lines["ours"], lines["plain"]),
            *(f"{name}: {value:.0f} s" for name, value in seconds.items()),
            *(f"sampler of {side}: {line['sampler']}" for side, line in lines.items()),
        ]
    )
    write_text(out / "quality.md", text)
    paths = [out / name for name in ("quality.json", "quality.md", "ours.png", "plain.png")]
    return "\n".join([text, "", *map(str, paths)])
