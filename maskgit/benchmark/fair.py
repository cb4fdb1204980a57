"""Fair shares of time: how many training steps fit, measured in alternating turns; and tables over seeds.

And what a data set's tokenizer is trained with before that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from maskgit.benchmark.timing import Work, alternate
from maskgit.config import Config, load
from maskgit.order import StepOrder, batches
from maskgit.tasks import TASKS
from maskgit.trainer import make_accelerator, train, with_precision
from vqgan.files import replacing

STEPS_A_TURN = 5


def with_perceptual(data: str, folder: Path, *overrides: str) -> list[str]:
    """Overrides of DATA/vqgan: where its perceptual loss finds its classifier, which is trained in `folder` first.

    overrides: of the classifier. None where the config has no such loss.
    """
    perceptual = load(f"{data}/vqgan").loss.perceptual  # type: ignore[union-attr]
    if not isinstance(perceptual, Mapping) or perceptual["name"] != "classifier":
        return []
    train(load(f"{data}/perceptual", [f"run={folder}", *overrides]))
    return [f"loss.perceptual={{name: classifier, weights: {folder}}}"]


def turn(config: Config, folder: Path) -> Work:
    """A few training steps of a config; `folder` is for what its task writes."""
    config = with_precision(config)
    task = TASKS[config.task](config, make_accelerator(config.train, folder))
    order = StepOrder(len(task.dataset), config.train.batch_size, seed=0, start=0, stop=10**6)
    parts = iter(batches(task.dataset, order))

    def work() -> None:
        for step in range(STEPS_A_TURN):
            task.update(step, [next(parts)])

    return work


def seconds_a_step(works: Callable[[], Mapping[str, Work]], path: Path, seconds: float) -> dict[str, float]:
    """Of each work, a turn of STEPS_A_TURN: the median of alternating turns. Measured once, and kept in a file.

    So what the machine does later hits no line of a table more than another.
    """
    if path.is_file():
        return dict(json.loads(path.read_text()))
    print("== how many steps fit", file=sys.stderr, flush=True)
    found = alternate(works(), seconds=min(60.0, seconds), least=3, most=50)
    times = {key: median(turns) / STEPS_A_TURN for key, turns in found.items()}
    with replacing(path) as aside:
        aside.write_text(json.dumps(times, indent=1) + "\n")
    return times


def kept(path: Path, made_of: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What `work` returns, from the file at `path` if that was made of the same; else it is written there."""
    wanted = json.loads(json.dumps(made_of))
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known.get("made of") != wanted or "found" not in known:
        known = {"made of": wanted, "found": work()}
        with replacing(path) as aside:
            aside.write_text(json.dumps(known, indent=1) + "\n")
    return dict(known["found"])


def write_table(
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Mapping[str, str],
    out: Path,
    name: str,
    about: Mapping[str, Any],
    floors: Sequence[str] = (),
) -> list[str]:
    """out/name.json and out/name.md: for each line the mean over seeds and half of their range, and its steps.

    lines: line -> for each seed a mapping with "steps" and, for each key of `columns`, {"value": ...}. floors: the same
    numbers for real images. -> the rows of the table.
    """
    with replacing(out / f"{name}.json") as aside:
        aside.write_text(json.dumps({**about, "lines": lines}, indent=1) + "\n")
    rows = [f"| | {' | '.join(columns.values())} | steps |", "|" + "---|" * (len(columns) + 2)]
    for line, found in lines.items():
        cells = [_spread([one[key]["value"] for one in found if key in one]) for key in columns]
        rows.append(f"| {line} | {' | '.join(cells)} | {found[0]['steps']} |")
    if floors:
        rows.append(f"| real images | {' | '.join(floors)} | |")
    with replacing(out / f"{name}.md") as aside:
        aside.write_text("\n".join(rows) + "\n")
    return rows


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4g} ± {(max(values) - min(values)) / 2:.2g}" if values else ""
