"""Fair shares of time: how many training steps fit, by alternating turns; and tables over seeds.

And what is trained before that and measured after it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from maskgit.benchmark.timing import Work, alternate
from maskgit.config.loading import load
from maskgit.config.sections import Config
from maskgit.data.order import StepOrder, batches
from maskgit.evaluation.generator import evaluate
from maskgit.evaluation.report import Results, write_report
from maskgit.evaluation.request import Evaluation
from maskgit.evaluation.tables import kept, markdown, over_seeds, write_json, write_text
from maskgit.training.launch import make_accelerator, with_precision
from maskgit.training.tasks import TASKS
from maskgit.training.trainer import train

STEPS_A_TURN = 5


def with_perceptual(data: str, folder: Path, *overrides: str) -> list[str]:
    """Overrides of DATA/vqgan: where its perceptual loss finds its classifier, trained in `folder`.

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


def seconds_a_step(
    works: Callable[[], Mapping[str, Work]], path: Path, seconds: float
) -> dict[str, float]:
    """Of each work, a turn of STEPS_A_TURN: the median of alternating turns.

    Measured once, and kept in a file: what the machine does later hits all lines of a table alike.
    """

    def measure() -> dict[str, float]:
        print("== how many steps fit", file=sys.stderr, flush=True)
        found = alternate(works(), seconds=min(60.0, seconds), least=3, most=50)
        return {key: median(turns) / STEPS_A_TURN for key, turns in found.items()}

    return dict(kept(path, {"steps a turn": STEPS_A_TURN}, measure))


def measured(request: Evaluation, out: Path | None = None) -> Results:
    """What `maskgit evaluate` says, on a benchmark's one process; its report is put in `out`."""
    results = evaluate(request)
    assert results is not None
    if out is not None:
        write_report(results, out)
    return results


def write_table(
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Mapping[str, str],
    out: Path,
    name: str,
    about: Mapping[str, Any],
    floors: Sequence[str] = (),
) -> str:
    """out/name.json and out/name.md: of each line its steps, the mean over seeds, half their range.

    lines: line -> for each seed a mapping with "steps" and, for each key of `columns`, {"value":
    ...}. floors: the same numbers for real images. -> the table in Markdown.
    """
    write_json(out / f"{name}.json", {**about, "lines": lines})
    rows = [
        [
            line,
            *(over_seeds([one[key]["value"] for one in found if key in one]) for key in columns),
            found[0]["steps"],
        ]
        for line, found in lines.items()
    ]
    if floors:
        rows.append(["real images", *floors, ""])
    text = markdown(["", *columns.values(), "steps"], rows)
    write_text(out / f"{name}.md", text)
    return text
