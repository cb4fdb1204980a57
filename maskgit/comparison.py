"""compare: samplers side by side on one model, at several numbers of rounds.

out/<sampler>-<rounds>/results.json (of `evaluate`)  place.json (what it is of)  speed.json  ->
out/samplers.json  samplers.md  samplers.png (FID against network calls)  speed.png (against images a second)  grid.png

Run again, it continues; a speed.json that is deleted is measured again, on a quieter machine. Where a preset
`<sampler>-<rounds>` lies beside the model (`maskgit tune`), its settings are used; else those of that sampler's preset
with the nearest number of rounds; else the sampler's own defaults.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch

from maskgit.evaluation import evaluate
from maskgit.images import save_png
from maskgit.instruments import instruments
from maskgit.pipeline import Pipeline
from maskgit.plots import image_grid, lines
from maskgit.precision import seconds_of
from maskgit.processes import gather_rows, on_threads, this_process, usual_batch
from maskgit.report import write_report
from maskgit.request import Evaluation
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
VERSION = 2
"""Of how things are measured: places of another one do not stand in the same table."""
ROUNDS_SHOWN = (8, 32)


@dataclass(frozen=True)
class Comparison:
    """What to compare. samplers: none for all that the model can be drawn with.

    longest: seconds of drawing for each place that is not there yet, with fewer samples where they would take more;
    the table says how many each is of. refresh: of the samplers that have it (maskgit.passes), each number a line of
    its own.
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


def run_comparison(asked: Comparison) -> str | None:
    """Measure every place of the table that is not there yet -> the table on the main process, none on the others.

    Several processes draw and measure each place together; how quick one of them is, the main one measures alone.
    """
    main = this_process().is_main_process
    pipeline = load_pipeline(asked.run, asked.precision)
    critics = {name: critic_of(entry) for name, entry in SAMPLERS.items()}
    allowed = [name for name, critic in critics.items() if critic is None or getattr(pipeline.model, critic)]
    for name in asked.samplers:
        pipeline.settings(sampler=name)  # refuses one that is not there, or whose critic is not
    if max(asked.refresh) > 1 and pipeline.model.self_cond:
        raise ValueError("a self-conditioned model runs whole in every round: refresh can only be 1")
    out = asked.out or asked.run / "samplers"
    places = [
        _Place(asked, pipeline, out, sampler, rounds, refresh)
        for rounds in asked.rounds
        for sampler in asked.samplers or allowed
        for refresh in (asked.refresh if "refresh" in options_of(SAMPLERS[sampler]) else (1,))
    ]
    if stale := [str(place.out) for place in places if place.is_stale()]:
        raise ValueError(
            f"measured with another model or other settings (a preset of `tune`, for one): {', '.join(stale)}: delete "
            "them, or set --out"
        )
    for number, place in enumerate(places, start=1):
        place.measure()
        if main:
            _write([one.row() for one in places[:number]], out)
    if not main:
        return None
    for place in places:  # one after the other, so that what else the machine does is the same for all
        place.clock()
    rows = [place.row() for place in places]
    text = _write(rows, out)
    _draw(pipeline, [place.options for place in places], rows, out)
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


def _seconds(pipeline: Pipeline, options: dict[str, Any], number: int) -> float:
    """For a batch of the usual size, the number-th one."""
    size = usual_batch()
    labels = [i % len(pipeline.class_names) for i in range(size)]
    seeds = range(number * size, (number + 1) * size)
    return seconds_of(lambda: list(pipeline.stream(labels, seeds, batch_size=size, **options)))


def _speed(pipeline: Pipeline, options: dict[str, Any]) -> dict[str, float]:
    """How often an image passes through a net, and then images a second (median of three batches)."""
    calls = _network_calls(pipeline, options)
    seconds = [_seconds(pipeline, options, number) for number in range(3)]
    return {"images/s": usual_batch() / median(seconds), "network calls": calls}


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


class _Place:
    """One row: a sampler, a number of rounds, and how often the net runs whole."""

    def __init__(
        self, asked: Comparison, pipeline: Pipeline, folder: Path, sampler: str, rounds: int, refresh: int
    ) -> None:
        self.pipeline, self.sampler, self.rounds, self.refresh = pipeline, sampler, rounds, refresh
        self.longest = asked.longest
        self.out = folder / (preset_name(sampler, rounds) + ("" if refresh == 1 else f"-refresh-{refresh}"))
        found, self.origin = settings_for(pipeline, sampler, rounds, refresh)
        self.options = pipeline.settings(**found)._asdict()  # as they are now, whatever `tune` writes meanwhile
        self.request = Evaluation(
            run=asked.run, count=asked.count, features=asked.features, weights=asked.weights, judge=asked.judge,
            precision=pipeline.precision, options=self.options,
        )  # fmt: skip
        self.found, weights = instruments(self.request), pipeline_hashes(asked.run)
        preset = pipeline.presets.get(found.get("preset", ""))
        if preset is not None and preset.measured.get("weights", weights) != weights:
            self.origin += " on other weights"
        made = {
            "settings": self.options,
            "asked": [VERSION, asked.count, pipeline.precision],
            "with": self.found,
            "weights": weights,
        }
        self.made = json.loads(json.dumps(made))

    def is_stale(self) -> bool:
        """Whether what is there is of another model or of other options."""
        path = self.out / "place.json"
        return path.is_file() and json.loads(path.read_text())["made of"] != self.made

    def measure(self) -> None:
        """Draw and measure, unless it is done."""
        path = self.out / "place.json"
        if path.is_file():
            return
        state = this_process()
        if state.is_main_process:
            print(f"== {_line(self.sampler, self.refresh)}, {self.rounds} rounds", file=sys.stderr, flush=True)
        quick = usual_batch() / gather_rows(torch.tensor([[_seconds(self.pipeline, self.options, 0)]])).max().item()
        fits = int(self.longest * quick * state.num_processes / 100) * 100
        count = min(cast(int, self.request.count), max(100, fits))
        metrics = ("fid", "prdc", *(["agreement"] if self.found["judge"] else []))
        results = evaluate(replace(self.request, count=count, metrics=metrics))
        if results is not None:
            write_report(results, self.out)
            with replacing(path) as aside:
                aside.write_text(json.dumps({"count": count, "made of": self.made, "from": self.origin}) + "\n")

    def clock(self) -> None:
        """Measure how quick it is, unless that is done."""
        path = self.out / "speed.json"
        if not path.is_file():
            print(f"== speed of {_line(self.sampler, self.refresh)}, {self.rounds} rounds", file=sys.stderr, flush=True)
            # the other processes of a launch are done, so that their threads are free
            with on_threads(torch.get_num_threads() * this_process().num_processes):
                speed = _speed(self.pipeline, self.options)
            with replacing(path) as aside:
                aside.write_text(json.dumps(speed) + "\n")

    def row(self) -> dict[str, Any]:
        """What is known of it."""
        place = json.loads((self.out / "place.json").read_text())
        speed = self.out / "speed.json"
        return {
            "sampler": self.sampler,
            "refresh": self.refresh,
            "rounds": self.rounds,
            "count": place["count"],
            "from": place["from"],
            **(json.loads(speed.read_text()) if speed.is_file() else {}),
            "numbers": json.loads((self.out / "results.json").read_text())["numbers"],
        }


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
        calls, speed = (f"{row[key]:.3g}" if key in row else "" for key in ("network calls", "images/s"))
        cells = [_line(row["sampler"], row["refresh"]), row["rounds"], calls]
        for key in columns:
            number = row["numbers"][key]
            width = "" if number["half_width"] is None else f" ± {number['half_width']:.2g}"
            cells.append(f"{number['value']:.3g}{width}")
        cells += [speed, row["count"], row["from"]]
        table.append(f"| {' | '.join(map(str, cells))} |")
    text = "\n".join(table)
    with replacing(out / "samplers.md") as aside:
        aside.write_text(text + "\n")
    return text


def _draw(
    pipeline: Pipeline, options: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], out: Path
) -> None:
    """samplers.png, speed.png, and grid.png: a row of ten classes for each sampler, the same seeds in all.

    A line of the plots leads from few rounds to many, or, where all have as many, from one refresh to the next.
    """
    rounds, refreshes = (sorted({row[key] for row in rows}) for key in ("rounds", "refresh"))
    cached = len(rounds) == 1 < len(refreshes)
    note = f"{rounds[0]} rounds; along a line, refresh {', '.join(map(str, refreshes))}" if cached else None
    for key, name, title in (
        ("network calls", "samplers", "network calls for an image"),
        ("images/s", "speed", "images a second"),
    ):
        series: dict[str, list[tuple[float, float, float]]] = {}
        for row in sorted(rows, key=lambda row: (row["rounds"], row["refresh"])):
            fid = row["numbers"]["fid"]
            place = (row[key], fid["value"], fid["half_width"] or 0.0)
            series.setdefault(row["sampler"] if cached else _line(row["sampler"], row["refresh"]), []).append(place)
        lines(series, out / f"{name}.png", x=title, y="FID, ± its 95 % interval", note=note)
    labels = [i % len(pipeline.class_names) for i in range(10)]
    both = list(zip(options, rows, strict=True))
    shown = [one for one in both if one[1]["rounds"] in ROUNDS_SHOWN] or both
    images = [image for chosen, _ in shown for image in pipeline.stream(labels, range(10), **chosen)]
    names = [f"{_line(row['sampler'], row['refresh'])}, {row['rounds']}" for _, row in shown]
    save_png(image_grid(torch.stack(images), num_columns=10, row_names=names), out / "grid.png")
