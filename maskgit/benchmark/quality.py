"""Time to quality: the same wall time for our pipeline and for the plain one, on Fashion-MNIST, then `evaluate`.

Both are trained, one right after the other; then both are drawn and measured.

out/ours/ out/plain/ (results of `maskgit evaluate`)  ours.png  plain.png (ten of each class)  quality.json  .md

Run again, it does only what is not there yet (ours_trained.json, plain_trained.json, ours.json, plain.json): so both
may be trained on one machine and drawn on another, to which `out` was copied.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from maskgit import runs
from maskgit.benchmark.fair import kept, with_perceptual
from maskgit.benchmark.plain import PlainPipeline
from maskgit.codes import CodeDataset
from maskgit.config import Config, MaskGITConfig, TokenizerConfig, find_config, load, to_dict
from maskgit.data import chunks_of
from maskgit.evaluation import evaluate
from maskgit.image_sets import from_npz, from_source
from maskgit.images import save_png, to_float, to_uint8
from maskgit.npz import write_npz
from maskgit.plots import image_grid
from maskgit.processes import this_process
from maskgit.report import write_report
from maskgit.request import Evaluation
from maskgit.sampling import Request, draw_grid, load_pipeline
from maskgit.tokenization import tokenize_dataset
from maskgit.trainer import train
from vqgan.weights import replacing

CALIBRATION = 60
OVERRIDES: dict[str, list[str]] = {"classifier": [], "vqgan": [], "maskgit": []}
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


def run_quality(minutes: Sequence[float], count: int, out: Path, data: str = "fashion_mnist") -> str:
    """Train both for minutes[0] (tokenizer) and minutes[1] (generator), draw `count` samples each -> a table."""
    judge, clock = out / "judge", _Clock()
    clock.run("judge", lambda: train(load(f"{data}/classifier", [f"run={judge}", *OVERRIDES["classifier"]])))
    recipe = {stage: to_dict(load(f"{data}/{stage}", more)) for stage, more in OVERRIDES.items()}
    trained: dict[str, dict[str, Any]] = {}
    lines: dict[str, dict[str, Any]] = {}

    def stage(path: Path, made_of: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found = kept(path, made_of, lambda: work() | {"seconds": dict(clock.seconds)})
        clock.seconds |= {name: taken for name, taken in found["seconds"].items() if name not in clock.seconds}
        return found

    for side, training in (("ours", _train_ours), ("plain", _train_plain)):
        made_of = {"minutes": minutes, "data": data, "configs": recipe}
        work = partial(training, data, [60 * m for m in minutes], out, clock)
        trained[side] = stage(out / f"{side}_trained.json", made_of, work)
    for side, drawing, choices in (("ours", _draw_ours, OUR_CHOICES), ("plain", _draw_plain, CHOICES)):
        drawn_of = {"trained": trained[side], "count": count, "choices": choices, "few": FEW}
        work = partial(drawing, data, count, judge, out, clock)
        lines[side] = stage(out / f"{side}.json", drawn_of, work)["numbers"] | {"steps": trained[side]["steps"]}
    return _report(lines, clock.seconds, out)


def _steps_for(config: Config, seconds: float, out: Path) -> Config:
    """The config with as many steps as fit, by the speed of a short run in a folder that is removed again."""
    scratch = out / "calibration"
    shutil.rmtree(scratch, ignore_errors=True)
    never = 10**9
    few = {"steps": CALIBRATION, "eval_every": never, "preview_every": never, "save_every": never, "trackers": ()}
    short = config.model_copy(update={"run": str(scratch), "train": config.train.model_copy(update=few)})
    train(short)
    rows = [row for row in runs.read_metrics(scratch / "metrics.jsonl") if "loss" in row][2:]
    cells = math.prod(CodeDataset(config.codes, "train").grid) if isinstance(config, MaskGITConfig) else 1
    key = "images_per_second" if cells == 1 else "cells_per_second"
    rate = median(row[key] for row in rows) / (config.train.batch_size * cells)
    shutil.rmtree(scratch)
    steps = int(0.96 * rate * seconds)  # the rest is for validation, previews and checkpoints
    often = max(1, steps // 4)
    found = {"steps": steps, "eval_every": steps, "preview_every": often, "save_every": often}
    return config.model_copy(update={"train": config.train.model_copy(update=found)})


def _train_ours(data: str, seconds: Sequence[float], out: Path, clock: _Clock) -> dict[str, Any]:
    """The configs of the data set, with as many steps as fit; what the tokenizer's perceptual loss sees is trained
    within its time."""
    folders = {"run": f"{out}/maskgit", "tokenizer": f"{out}/vqgan", "codes": f"{out}/codes"}
    places = [f"{key}={value}" for key, value in folders.items()]
    maskgit = cast(MaskGITConfig, load(f"{data}/maskgit", [*places, *OVERRIDES["maskgit"]]))
    for path in (*folders.values(), f"{out}/perceptual"):
        shutil.rmtree(path, ignore_errors=True)
    first = clock.run("ours: perceptual", lambda: with_perceptual(data, out / "perceptual", *OVERRIDES["classifier"]))
    found = load(f"{data}/vqgan", [f"run={folders['tokenizer']}", *first, *OVERRIDES["vqgan"]])
    rest = max(1.0, seconds[0] - clock.seconds["ours: perceptual"])
    vqgan = cast(TokenizerConfig, _steps_for(cast(TokenizerConfig, found), rest, out))
    clock.run("ours: tokenizer", lambda: train(vqgan))
    clock.run("ours: tokenise", lambda: tokenize_dataset(vqgan.run, maskgit.codes))
    maskgit = cast(MaskGITConfig, _steps_for(maskgit, seconds[1], out))
    clock.run("ours: generator", lambda: train(maskgit))
    return {"steps": f"{vqgan.train.steps} + {maskgit.train.steps}"}


def _draw_ours(data: str, count: int, judge: Path, out: Path, clock: _Clock) -> dict[str, Any]:
    """With the best of OUR_CHOICES."""
    run = out / "maskgit"

    def measure(number: int, name: str, metrics: Sequence[str], choice: dict[str, Any]) -> dict[str, Any]:
        common = {"features": "classifier", "weights": judge, "options": choice}
        results = evaluate(Evaluation(run=run, count=number, metrics=metrics, **common))  # type: ignore[arg-type]
        assert results is not None
        write_report(results, out / name)
        return _numbers(out / name)

    tried = [measure(min(FEW, count), "ours-few", ("fid",), choice)["fid"]["value"] for choice in OUR_CHOICES]
    shutil.rmtree(out / "ours-few")
    best = OUR_CHOICES[tried.index(min(tried))]
    numbers = clock.run("ours: evaluate", lambda: measure(count, "ours", METRICS, best))
    pipeline = load_pipeline(run)
    labels = list(range(len(pipeline.class_names)))
    draw_grid(pipeline, Request(labels, 10, 0, 100, best), out / "ours.png")
    settings = f"{best or 'that of the config'} (FID of {min(FEW, count)}: {_choices(OUR_CHOICES, tried)})"
    return {"numbers": numbers | {"sampler": settings}}


def _choices(choices: Sequence[Any], fids: Sequence[float]) -> str:
    """Each choice of settings with its FID."""
    return ", ".join(f"{choice or 'config'} {fid:.3g}" for choice, fid in zip(choices, fids, strict=True))


def _plain(data: str) -> PlainPipeline:
    """The plain pipeline, untrained, on the images of DATA/vqgan."""
    config = cast(TokenizerConfig, load(find_config(f"{data}/vqgan"))).data
    source = from_source(config, "train")
    images = torch.cat(list(source.read(chunks_of(source.num_images, 1000))))
    assert source.labels is not None
    labels, num_classes = torch.from_numpy(source.labels), int(source.labels.max()) + 1
    return PlainPipeline(images, labels, num_classes, this_process().device, flip=config.flip)


def _train_plain(data: str, seconds: Sequence[float], out: Path, clock: _Clock) -> dict[str, Any]:
    """For exactly as long as ours took, of which `seconds` is only the plan."""
    plain = _plain(data)
    perceptual, tokenizer, generator = (clock.seconds[f"ours: {x}"] for x in ("perceptual", "tokenizer", "generator"))
    first = clock.run("plain: tokenizer", lambda: plain.train_tokenizer(perceptual + tokenizer))
    clock.run("plain: tokenise", plain.tokenize)
    second = clock.run("plain: generator", lambda: plain.train_generator(generator))
    plain.save(out / "plain.safetensors")
    return {"steps": f"{first} + {second}"}


def _draw_plain(data: str, count: int, judge: Path, out: Path, clock: _Clock) -> dict[str, Any]:
    """With the best of CHOICES."""
    plain = _plain(data)
    plain.load(out / "plain.safetensors")
    tried, few, num_classes = [], min(FEW, count), plain.num_classes
    for choice in CHOICES:
        path = _draw(plain, few, choice, num_classes, out / "plain-few.npz")
        _measure(path, data, judge, out / "plain-few", ("fid",))
        tried.append(_numbers(out / "plain-few")["fid"]["value"])
    shutil.rmtree(out / "plain-few")
    (out / "plain-few.npz").unlink()
    best = CHOICES[tried.index(min(tried))]
    path = clock.run("plain: sample", lambda: _draw(plain, count, best, num_classes, out / "plain.npz"))
    clock.run("plain: measure", lambda: _measure(path, data, judge, out / "plain", METRICS))
    columns = max(1, min(10, count // num_classes))
    many = torch.cat(list(from_npz(path, channels=1).read([range(columns * num_classes)])))
    rows = many.unflatten(0, (columns, num_classes)).transpose(0, 1).flatten(0, 1)
    names = load_pipeline(out / "maskgit").class_names
    save_png(image_grid(to_float(rows), num_columns=columns, row_names=names), out / "plain.png")
    settings = f"(start_temperature, filter_thres) {best} (FID of {few}: {_choices(CHOICES, tried)})"
    return {"numbers": _numbers(out / "plain") | {"sampler": settings}}


def _draw(plain: PlainPipeline, count: int, choice: tuple[float, float], num_classes: int, path: Path) -> Path:
    labels = torch.arange(count) % num_classes
    torch.manual_seed(0)

    def batches() -> Iterator[Tensor]:
        for part in labels.split(100):
            yield to_uint8(plain.sample(part, start_temperature=choice[0], filter_thres=choice[1]))

    return write_npz(path, batches(), (count, 1, 28, 28), labels.tolist())


def _measure(samples: Path, data: str, judge: Path, out: Path, metrics: Sequence[str]) -> None:
    common = {"features": "classifier", "weights": judge}
    results = evaluate(Evaluation(samples=samples, reference=f"{data}/vqgan", metrics=metrics, **common))  # type: ignore[arg-type]
    assert results is not None
    write_report(results, out)


def _numbers(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text())["numbers"])


def _report(lines: dict[str, dict[str, Any]], seconds: dict[str, float], out: Path) -> str:
    with replacing(out / "quality.json") as aside:
        aside.write_text(json.dumps({"lines": lines, "seconds": seconds}, indent=1) + "\n")
    names = [name for name, value in lines["ours"].items() if isinstance(value, dict)]
    rows = [f"| | {' | '.join(names)} | steps |", "|" + "---|" * (len(names) + 2)]
    for side, line in lines.items():
        values = [f"{line[name]['value']:.4g} ± {line[name]['half_width'] or math.nan:.2g}" for name in names]
        rows.append(f"| {side} | {' | '.join(values)} | {line['steps']} |")
    floors = [f"{lines['ours'][name]['floor']:.4g}" for name in names]
    rows.append(f"| real images | {' | '.join(floors)} | |")
    rows += ["", *(f"{name}: {value:.0f} s" for name, value in seconds.items())]
    rows += [f"sampler of {side}: {line['sampler']}" for side, line in lines.items()]
    with replacing(out / "quality.md") as aside:
        aside.write_text("\n".join(rows) + "\n")
    paths = [out / name for name in ("quality.json", "quality.md", "ours.png", "plain.png")]
    return "\n".join([*rows, "", *map(str, paths)])
