"""compare: samplers side by side on one model, at several numbers of rounds.

out/<sampler>-<rounds>/results.json (of `evaluate`)  speed.json  ->
out/samplers.json  samplers.md  samplers.png (FID against network calls)  speed.png (against images a second)  grid.png

Run again, it continues. Where a preset `<sampler>-<rounds>` lies beside the model (`maskgit tune`), its settings are
used; else those of that sampler's preset with the nearest number of rounds; else the sampler's own defaults.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch

from maskgit.evaluation import Evaluation, evaluate, instruments
from maskgit.images import save_png
from maskgit.pipeline import Pipeline
from maskgit.plots import image_grid, lines
from maskgit.processes import this_process
from maskgit.runs import pipeline_hashes
from maskgit.samplers import SAMPLERS, critic_of
from maskgit.sampling import load_pipeline
from maskgit.transformer import Transformer
from maskgit.tuning import preset_name
from vqgan.registry import options_of
from vqgan.weights import replacing

COLUMNS = {
    "fid": "FID", "class_agreement": "class agreement", "precision": "precision", "recall": "recall",
    "coverage": "coverage",
}  # fmt: skip
BATCH = 100
VERSION = 2
"""Of how things are measured: places of another one do not stand in the same table."""
ROUNDS_SHOWN = (8, 32)


@dataclass(frozen=True)
class Comparison:
    """What to compare. samplers: none for all that the model can be drawn with; longest: seconds for each place.

    refresh: of the samplers that have it (maskgit.passes), each number a line of its own.
    """

    run: Path
    samplers: Sequence[str]
    rounds: Sequence[int]
    count: int = 5000
    longest: float = 600.0
    features: str | None = None
    weights: Path | None = None
    judge: Path | None = None
    precision: str = "auto"
    out: Path | None = None
    refresh: Sequence[int] = (1,)


def run_comparison(asked: Comparison) -> str:
    """Measure every place of the table that is not there yet -> the table."""
    if this_process().num_processes > 1:
        raise ValueError("compare runs on one process")
    pipeline = load_pipeline(asked.run, asked.precision)
    critics = {name: critic_of(entry) for name, entry in SAMPLERS.items()}
    allowed = [name for name, critic in critics.items() if critic is None or getattr(pipeline.model, critic)]
    for name in asked.samplers:
        pipeline.settings(sampler=name)  # refuses one that is not there, or whose critic is not
    if max(asked.refresh) > 1 and pipeline.model.self_cond:
        raise ValueError("a self-conditioned model runs whole in every round: refresh can only be 1")
    out = asked.out or asked.run / "samplers"
    rows: list[dict[str, Any]] = []
    for rounds in asked.rounds:
        for sampler in asked.samplers or allowed:
            for refresh in asked.refresh if "refresh" in options_of(SAMPLERS[sampler]) else (1,):
                rows.append(_place(asked, pipeline, out, sampler, rounds, refresh))
                text = _write(rows, out)
    _draw(pipeline, rows, out)
    names = ("samplers.json", "samplers.md", "samplers.png", "speed.png", "grid.png")
    return "\n".join((text, "", *(str(out / name) for name in names)))


def settings_for(pipeline: Pipeline, sampler: str, rounds: int, refresh: int = 1) -> tuple[dict[str, Any], str]:
    """The options of Pipeline.settings for a place, and where they come from."""
    cached = {"refresh": refresh} if "refresh" in options_of(SAMPLERS[sampler]) else {}
    there = {
        int(name.removeprefix(f"{sampler}-")): preset
        for name, preset in pipeline.presets.items()
        if name.startswith(f"{sampler}-") and name.removeprefix(f"{sampler}-").isdecimal()
    }
    if not there:
        return {"sampler": sampler, "steps": rounds, **cached}, "defaults"
    nearest = min(there, key=lambda known: abs(math.log(known / rounds)))
    name = preset_name(sampler, nearest)
    return {"preset": name, "steps": rounds, **cached}, "tuned" if nearest == rounds else f"tuned at {nearest}"


def _speed(pipeline: Pipeline, options: dict[str, Any]) -> dict[str, float]:
    """Images a second (median of three batches, after one), and how often an image passes through a net."""
    labels = [i % len(pipeline.class_names) for i in range(BATCH)]
    seconds = []
    for number in range(4):
        start = time.perf_counter()
        list(pipeline.stream(labels, range(number * BATCH, (number + 1) * BATCH), batch_size=BATCH, **options))
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 30:
            break
    return {"images/s": BATCH / median(seconds[1:] or seconds), "network calls": _network_calls(pipeline, options)}


def _network_calls(pipeline: Pipeline, options: dict[str, Any], count: int = 5) -> float:
    """How often a whole grid passes through a net for an image that is drawn alone; a part of a grid is a part."""
    nets = [cast(Transformer, net) for net in (pipeline.model.net, pipeline.model.token_critic) if net is not None]
    cells = 0

    def add(_: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal cells
        cells += arguments[0].shape[:-1].numel()

    hooks = [net.first_layer.register_forward_pre_hook(add) for net in nets]
    try:
        list(pipeline.stream([number % len(pipeline.class_names) for number in range(count)], batch_size=1, **options))
    finally:
        for hook in hooks:
            hook.remove()
    return cells / count / math.prod(pipeline.transformer.grid)


def _place(
    asked: Comparison, pipeline: Pipeline, folder: Path, sampler: str, rounds: int, refresh: int
) -> dict[str, Any]:
    """One row: measured, unless it is there."""
    out = folder / (preset_name(sampler, rounds) + ("" if refresh == 1 else f"-refresh-{refresh}"))
    options, origin = settings_for(pipeline, sampler, rounds, refresh)
    known = [VERSION, asked.count, asked.longest, pipeline.precision]
    request = Evaluation(
        run=asked.run, features=asked.features, weights=asked.weights, judge=asked.judge, precision=pipeline.precision,
        out=out, options=options,
    )  # fmt: skip
    found, weights = instruments(request), pipeline_hashes(asked.run)
    if "preset" in options and pipeline.presets[options["preset"]].measured.get("weights", weights) != weights:
        origin += " on other weights"
    made = {
        "settings": pipeline.settings(**options)._asdict(), "asked": known, "with": found,
        "weights": weights,
    }  # fmt: skip
    wanted = json.loads(json.dumps(made))
    if not (out / "speed.json").is_file():
        print(f"== {_line(sampler, refresh)}, {rounds} rounds", file=sys.stderr, flush=True)
        speed = _speed(pipeline, options)
        count = min(asked.count, max(100, int(asked.longest * speed["images/s"] / 100) * 100))
        metrics = ("fid", "prdc", *(["agreement"] if found["judge"] else []))
        evaluate(replace(request, count=count, metrics=metrics))
        with replacing(out / "speed.json") as aside:
            aside.write_text(json.dumps(speed | {"count": count, "made of": wanted, "from": origin}))
    speed = json.loads((out / "speed.json").read_text())
    if speed.pop("made of") != wanted:
        raise ValueError(f"{out} was measured with another model or other options: delete it, or set --out")
    numbers = json.loads((out / "results.json").read_text())["numbers"]
    return {"sampler": sampler, "refresh": refresh, "rounds": rounds, **speed, "numbers": numbers}


def _line(sampler: str, refresh: int) -> str:
    """How a line of the table is called."""
    return sampler if refresh == 1 else f"{sampler}, refresh {refresh}"


def _write(rows: Sequence[Mapping[str, Any]], out: Path) -> str:
    """samplers.json and samplers.md."""
    with replacing(out / "samplers.json") as aside:
        aside.write_text(json.dumps(rows, indent=1) + "\n")
    columns = {key: title for key, title in COLUMNS.items() if key in rows[0]["numbers"]}
    heads = ["sampler", "rounds", "network calls", *columns.values(), "images/s", "samples", "settings"]
    table = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in sorted(rows, key=lambda row: (list(SAMPLERS).index(row["sampler"]), row["refresh"])):
        cells = [_line(row["sampler"], row["refresh"]), row["rounds"], f"{row['network calls']:.3g}"]
        for key in columns:
            number = row["numbers"][key]
            width = "" if number["half_width"] is None else f" ± {number['half_width']:.2g}"
            cells.append(f"{number['value']:.3g}{width}")
        cells += [f"{row['images/s']:.3g}", row["count"], row["from"]]
        table.append(f"| {' | '.join(map(str, cells))} |")
    text = "\n".join(table)
    with replacing(out / "samplers.md") as aside:
        aside.write_text(text + "\n")
    return text


def _draw(pipeline: Pipeline, rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """samplers.png, speed.png, and grid.png: a row of ten classes for each sampler, the same seeds in all."""
    for key, name, title in (
        ("network calls", "samplers", "network calls for an image"),
        ("images/s", "speed", "images a second"),
    ):
        series: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            place = (row[key], row["numbers"]["fid"]["value"])
            series.setdefault(_line(row["sampler"], row["refresh"]), []).append(place)
        lines(series, out / f"{name}.png", x=title, y="FID")
    labels = [i % len(pipeline.class_names) for i in range(10)]
    shown = [row for row in rows if row["rounds"] in ROUNDS_SHOWN] or list(rows)
    images = [
        image
        for row in shown
        for image in pipeline.stream(
            labels, range(10), **settings_for(pipeline, row["sampler"], row["rounds"], row["refresh"])[0]
        )
    ]
    names = [f"{_line(row['sampler'], row['refresh'])}, {row['rounds']}" for row in shown]
    save_png(image_grid(torch.stack(images), num_columns=10, row_names=names), out / "grid.png")
