"""`--judge auto`: a judge of a run, trained where there is none, and kept."""

from __future__ import annotations

import sys
from pathlib import Path

AUTO = Path("auto")
MINUTES, BATCH = 2, 64
"""Of its training."""


def judge_path(run: Path | None, judge: Path | None) -> Path | None:
    """What `--judge` says; for `auto`, the folder of the judge of the run, which is trained first
    if there is none.

    It lies beside a run of one's own, else in the cache; a training that was stopped goes on.
    ValueError where a judge cannot be trained.
    """
    if judge != AUTO or AUTO.exists():
        return judge
    if run is None:
        raise ValueError("--judge auto is trained on the images of a run: name the judge's run")
    from maskgit.evaluation import judge_of

    return judge_of(run) or _trained(run)


def _trained(run: Path) -> Path:
    from maskgit.config import ClassifierConfig, validated
    from maskgit.evaluation import is_tokenizer, kept_judge
    from maskgit.pipeline import data_of, is_own, pipeline_folder
    from maskgit.processes import this_process
    from maskgit.training import train

    if is_tokenizer(run):
        raise ValueError(f"{run} is a tokenizer: --judge auto is for generators")
    data = data_of(pipeline_folder(run))
    if not data:
        raise ValueError(f"{run} does not say what images it was trained on: pass --judge RUN")
    place = run.parent / "classifier" if is_own(run) else kept_judge(run)
    options = {"minutes": MINUTES, "batch_size": BATCH, "weight_decay": 1e-2, "trackers": ()}
    values = {"run": str(place), "data": data, "train": options}
    if this_process().is_main_process:
        print(f"training a judge into {place}, {MINUTES} minutes; it is kept", file=sys.stderr)
    train(validated(ClassifierConfig, values, "the judge"))
    return place
