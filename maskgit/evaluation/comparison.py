"""compare: samplers side by side on one model, at several numbers of rounds.

out/<sampler>-<rounds>/place.json (its numbers)  speed.json  results.json, ... (of `evaluate`)  ->
out/samplers.json  samplers.md  samplers.png (FID against network calls)
out/speed.png (FID against images a second)  grid.png

First all places of the table are planned (places.py), then measured, then clocked. Run again,
it continues; a speed.json that is deleted is measured again, on a quieter machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from maskgit.data.pixels import save_png
from maskgit.evaluation.generator import evaluate
from maskgit.evaluation.places import Comparison, Place, Row, line_of, plan
from maskgit.evaluation.report import write_report
from maskgit.evaluation.request import Evaluation
from maskgit.evaluation.tables import kept, markdown, shown, write_json, write_text
from maskgit.machine import on_threads, seconds_of, usual_batch
from maskgit.pictures import image_grid
from maskgit.pipeline.drawing import load_pipeline
from maskgit.pipeline.pipeline import Pipeline
from maskgit.plots import lines
from maskgit.processes import gather_rows, held, this_process
from maskgit.samplers import SAMPLERS

COLUMNS = {
    "fid": "FID",
    "fid_witness": "FID, witness",
    "fid_mobilenet": "FID, MobileNet",
    "worst_fid": "worst FID / real images'",
    "class_agreement": "class agreement",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
}
ROUNDS_SHOWN = (8, 32)
"""In grid.png, where there are such."""


def run_comparison(asked: Comparison) -> str | None:
    """Measure every place of the table that is not there yet -> the table, none on other processes.

    Several processes draw and measure each place together; the main one is clocked alone.
    """
    with held(asked.folder, "compare"):
        return _compared(asked)


def _compared(asked: Comparison) -> str | None:
    pipeline = load_pipeline(asked.run, asked.precision)
    places, is_main = plan(asked, pipeline), this_process().is_main_process
    for number, place in enumerate(places, start=1):
        measure(place, pipeline, asked.longest)
        if is_main:
            _write([one.row() for one in places[:number]], asked.folder)
    if not is_main:
        return None
    for place in places:  # one after the other: what else the machine does is the same for all
        clock(place, pipeline)
    rows = [place.row() for place in places]
    text = _write(rows, asked.folder)
    _plot(rows, asked.folder)
    _draw(pipeline, places, asked.folder / "grid.png")
    names = ("samplers.json", "samplers.md", "samplers.png", "speed.png", "grid.png")
    return "\n".join((text, "", *(str(asked.folder / name) for name in names)))


def measure(place: Place, pipeline: Pipeline, longest: float) -> None:
    """Draw and measure, all processes together, unless it is done."""

    def work() -> dict[str, Any] | None:
        if this_process().is_main_process:
            print(f"== {place.line}, {place.rounds} rounds", file=sys.stderr, flush=True)
        count = _count_for(place.request, pipeline, longest)
        results = evaluate(replace(place.request, count=count))
        if results is None:
            return None
        write_report(results, place.out)
        return {"count": count, "from": place.origin, "numbers": results.as_json()["numbers"]}

    kept(place.out / "place.json", place.made_of, work)


def _count_for(request: Evaluation, pipeline: Pipeline, longest: float) -> int:
    """As many as asked for, or as many hundreds, one at least, as `longest` seconds allow."""
    slowest = gather_rows(torch.tensor([[_seconds(pipeline, request, 0)]])).max().item()
    quick = (request.batch_size or usual_batch()) / slowest
    fits = int(longest * quick * this_process().num_processes / 100) * 100
    return min(request.count or 0, max(100, fits))


def _seconds(pipeline: Pipeline, request: Evaluation, number: int) -> float:
    """For a batch of the request's or the usual size, the number-th one."""
    size, options = request.batch_size or usual_batch(), request.options
    labels = [i % len(pipeline.class_names) for i in range(size)]
    seeds = range(number * size, (number + 1) * size)
    return seconds_of(lambda: list(pipeline.stream(labels, seeds, batch_size=size, **options)))


def clock(place: Place, pipeline: Pipeline) -> None:
    """Network calls of an image, then images a second (median of three batches), unless done."""

    def work() -> dict[str, float]:
        print(f"== speed of {place.line}, {place.rounds} rounds", file=sys.stderr, flush=True)
        request = place.request
        # the other processes of a launch are done, so that their threads are free
        with on_threads(torch.get_num_threads() * this_process().num_processes):
            calls = network_calls(pipeline, request.options)
            seconds = [_seconds(pipeline, request, number) for number in range(3)]
        size = request.batch_size or usual_batch()
        return {"images/s": size / median(seconds), "network calls": calls}

    kept(place.out / "speed.json", place.made_of, work)


def network_calls(pipeline: Pipeline, options: Mapping[str, Any], count: int = 5) -> float:
    """How often a whole grid passes through the net or its critic for an image that is drawn alone.

    A pass of a part of the cells is a part of a call, where a net has a `first_layer`: what every
    cell of every pass goes through first, (batch, cells, dim) -> any. Other nets run whole.
    """
    cells = 0

    def add(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        nonlocal cells
        shape = given[0].shape  # of codes (batch, *grid), or of embeddings (batch, cells, dim)
        cells += (shape[:-1] if given[0].is_floating_point() else shape).numel()

    nets = [net for net in (pipeline.model.net, pipeline.model.token_critic) if net is not None]
    hooks = [getattr(net, "first_layer", net).register_forward_pre_hook(add) for net in nets]
    labels = [number % len(pipeline.class_names) for number in range(count)]
    try:
        list(pipeline.stream(labels, batch_size=1, **options))
    finally:
        for hook in hooks:
            hook.remove()
    return cells / count / math.prod(pipeline.grid_of())


def _write(rows: Sequence[Row], out: Path) -> str:
    """samplers.json and samplers.md."""
    write_json(out / "samplers.json", rows)
    columns = {key: title for key, title in COLUMNS.items() if key in rows[0]["numbers"]}
    heads = ["sampler", "rounds", "network calls", *columns.values()]
    heads += ["images/s", "samples", "settings"]
    names = list(SAMPLERS)
    in_order = sorted(rows, key=lambda row: (names.index(row["sampler"]), row["refresh"]))
    text = markdown(heads, [_cells(row, list(columns)) for row in in_order])
    write_text(out / "samplers.md", text)
    return text


def _cells(row: Row, columns: Sequence[str]) -> list[object]:
    calls, speed = (shown(row.get(key), digits=3) for key in ("network calls", "images/s"))
    found = [row["numbers"][key] for key in columns]
    numbers = [shown(one["value"], one["half_width"], digits=3) for one in found]
    name = line_of(row["sampler"], row["refresh"])
    return [name, row["rounds"], calls, *numbers, speed, row["count"], row["from"]]


def _plot(rows: Sequence[Row], out: Path) -> None:
    """samplers.png and speed.png.

    A line leads from few rounds to many, or, where all have as many, from one refresh to the next.
    """
    rounds, refreshes = (sorted({row[key] for row in rows}) for key in ("rounds", "refresh"))
    cached, note = len(rounds) == 1 < len(refreshes), None
    if cached:
        note = f"{rounds[0]} rounds; along a line, refresh {', '.join(map(str, refreshes))}"
    for name, key, title in (
        ("samplers", "network calls", "network calls for an image"),
        ("speed", "images/s", "images a second"),
    ):
        series: dict[str, list[tuple[float, float, float]]] = {}
        for row in sorted(rows, key=lambda row: (row["rounds"], row["refresh"])):
            fid = row["numbers"]["fid"]
            point = (row[key], fid["value"], fid["half_width"] or 0.0)
            line = row["sampler"] if cached else line_of(row["sampler"], row["refresh"])
            series.setdefault(line, []).append(point)
        lines(series, out / f"{name}.png", x=title, y="FID, ± its 95 % interval", note=note)


def _draw(pipeline: Pipeline, places: Sequence[Place], path: Path) -> None:
    """A row of ten classes for each place of ROUNDS_SHOWN, or of all; all by the same seeds."""
    places = [place for place in places if place.rounds in ROUNDS_SHOWN] or places
    labels = [i % len(pipeline.class_names) for i in range(10)]
    images: list[Tensor] = []
    for place in places:
        images += pipeline.stream(labels, range(10), **place.request.options)
    names = [f"{place.line}, {place.rounds}" for place in places]
    save_png(image_grid(torch.stack(images), num_columns=10, row_names=names), path)
