"""Time to quality: the same wall time for our pipeline and for the plain one, on Fashion-MNIST.

Both are trained, one right after the other; then both are drawn and measured as by `evaluate`.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from maskgit.benchmark.fair import measured, with_perceptual
from maskgit.benchmark.plain import PlainPipeline
from maskgit.config.loading import find_config, load, to_dict
from maskgit.config.sections import Config, MaskGITConfig, TokenizerConfig
from maskgit.data.codes import CodeDataset
from maskgit.data.npz import write_npz
from maskgit.data.order import chunks_of
from maskgit.data.pixels import save_png, to_float, to_uint8
from maskgit.data.tokenization import tokenize_dataset
from maskgit.evaluation.image_sets import from_npz, from_source
from maskgit.evaluation.request import Evaluation
from maskgit.evaluation.tables import kept, markdown, shown, write_json, write_text
from maskgit.pictures import image_grid
from maskgit.pipeline.drawing import Request, draw_grid, load_pipeline
from maskgit.processes import this_process
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train

CALIBRATION = 60
OVERRIDES: dict[str, list[str]] = {"classifier": [], "vqgan": [], "maskgit": [], "witness": []}
"""Of the configs; tests make them small."""
METRICS = ("fid", "prdc", "agreement", "nearest")
CHOICES = ((1.0, 0.7), (1.0, 0.9), (4.0, 0.9), (8.0, 0.9), (16.0, 0.9), (32.0, 0.9))
"""(start_temperature, filter_thres) of the plain sampler; the first are its defaults."""
OUR_CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"guidance": {"scale": 3.0, "schedule": "linear"}},
    {"guidance": {"scale": 4.0, "schedule": "linear"}},
)
"""Options of our sampler; the first are the config's."""
FEW = 2000
"""Samples that a choice is judged by."""


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
    def judge(self) -> Path:
        """The classifier that both are measured with."""
        return self.out / "judge"


def run_quality(
    minutes: Sequence[float], count: int, out: Path, data: str = "fashion_mnist"
) -> str:
    """Train both, draw `count` samples of each and measure them -> a table.

    minutes: of the tokenizer and of the generator.
    """
    place = _Place(data, out, _Clock())
    for stage, folder in (("classifier", place.judge), ("witness", out / "witness")):
        config = load(f"{data}/{stage}", [f"run={folder}", *OVERRIDES[stage]])
        place.clock.run(folder.name, partial(train, config))
    recipe = {stage: to_dict(load(f"{data}/{stage}", more)) for stage, more in OVERRIDES.items()}
    seen_by = {"kinds": _kinds(), "witness": recipe.pop("witness")}
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
    run, few = place.out / "maskgit", min(FEW, count)
    of_few = Evaluation(run=run, count=few, metrics=("fid",))
    tried = [_measured(place, replace(of_few, options=choice))["fid"] for choice in OUR_CHOICES]
    best = _best(OUR_CHOICES, tried)
    request = Evaluation(run=run, count=count, metrics=METRICS, options=best)
    numbers = place.clock.run("ours: evaluate", lambda: _measured(place, request, "ours"))
    pipeline = load_pipeline(run)
    labels = list(range(len(pipeline.class_names)))
    draw_grid(pipeline, Request(labels, 10, 0, 100, best), place.out / "ours.png")
    settings = f"{best or 'that of the config'} ({_fids(OUR_CHOICES, tried, few)})"
    return {"numbers": numbers | {"sampler": settings}}


def _kinds() -> str:
    """The kinds of features that both sides are measured in: MobileNet's where its weights are."""
    there = (Path(torch.hub.get_dir()) / "checkpoints").glob("mobilenet_v2-*.pth")
    return "classifier,witness,mobilenet" if any(there) else "classifier,witness"


def _measured(place: _Place, request: Evaluation, name: str | None = None) -> dict[str, Any]:
    """The numbers of `evaluate` in JSON: choices by the judge alone, what is reported to out/name
    in each kind of features."""
    kinds = "classifier" if name is None else _kinds()
    asked = replace(request, features=kinds, weights=place.judge, pictures=name is not None)
    results = measured(asked, None if name is None else place.out / name)
    return dict(results.as_json()["numbers"])


def _best(choices: Sequence[Any], tried: Sequence[Mapping[str, float]]) -> Any:
    """The first choice of the least FID."""
    return min(zip(choices, tried, strict=True), key=lambda pair: pair[1]["value"])[0]


def _fids(choices: Sequence[Any], tried: Sequence[Mapping[str, float]], few: int) -> str:
    """Each choice of settings with its FID."""
    fids = [f"{a or 'config'} {fid['value']:.3g}" for a, fid in zip(choices, tried, strict=True)]
    return f"FID of {few}: {', '.join(fids)}"


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
    out, few = place.out, min(FEW, count)
    plain = _plain(place.data)
    plain.load(out / "plain.safetensors")
    reference = f"{place.data}/vqgan"
    of_few = Evaluation(samples=out / "plain-few.npz", reference=reference, metrics=("fid",))
    tried = []
    for choice in CHOICES:
        _draw(plain, few, choice, out / "plain-few.npz")
        tried.append(_measured(place, of_few)["fid"])
    (out / "plain-few.npz").unlink()
    best = _best(CHOICES, tried)
    path = place.clock.run("plain: sample", lambda: _draw(plain, count, best, out / "plain.npz"))
    request = Evaluation(samples=path, reference=reference, metrics=METRICS)
    numbers = place.clock.run("plain: measure", lambda: _measured(place, request, "plain"))
    names = load_pipeline(out / "maskgit").class_names
    _draw_grid(path, max(1, min(10, count // plain.num_classes)), names, out / "plain.png")
    settings = f"(start_temperature, filter_thres) {best} ({_fids(CHOICES, tried, few)})"
    return {"numbers": numbers | {"sampler": settings}}


def _draw(plain: PlainPipeline, count: int, choice: tuple[float, float], path: Path) -> Path:
    """Samples of all classes in turn, in an .npz file."""
    labels = torch.arange(count) % plain.num_classes
    torch.manual_seed(0)

    def batches() -> Iterator[Tensor]:
        for part in labels.split(100):
            yield to_uint8(plain.sample(part, start_temperature=choice[0], filter_thres=choice[1]))

    return write_npz(path, batches(), (count, 1, 28, 28), labels.tolist())


def _draw_grid(samples: Path, num_columns: int, names: Sequence[str], path: Path) -> None:
    """A row for each class, of samples of all classes in turn."""
    shape = (num_columns, len(names))
    many = torch.cat(list(from_npz(samples, channels=1).read([range(math.prod(shape))])))
    rows = many.unflatten(0, shape).transpose(0, 1).flatten(0, 1)
    save_png(image_grid(to_float(rows), num_columns=num_columns, row_names=names), path)


def worst_ratio(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """Plain's FID over ours in each kind of features, and the least of them, which decides.

    Both: the numbers of `evaluate` in JSON.
    """
    kinds = [name for name in ours if name == "fid" or name.startswith("fid_")]
    ratios = {name: plain[name]["value"] / ours[name]["value"] for name in kinds}
    worst = min(ratios, key=ratios.__getitem__)
    each = ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
    return f"plain over ours: {each}; worst ratio: {ratios[worst]:.3g} ({worst})"


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
    rows.append(["real images", *(shown(lines["ours"][name]["floor"]) for name in names), ""])
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
