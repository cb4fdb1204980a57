"""A Plan as ordinary configs, which can be edited and trained alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskgit.cli.own.choosing import Plan
from maskgit.cli.own.speed import BATCH
from maskgit.config import load, parse, write_yaml
from maskgit.config.sections import Config

WHAT = {
    "perceptual": "a classifier, of which the tokenizer's perceptual loss sees the features",
    "vqgan": "the tokenizer: images <-> grids of codes",
    "maskgit": "the generator of grids of codes",
    "classifier": "the judge: whether samples are read as their class, and the features of FID",
}
"""stage -> the first words of its config."""


def write_configs(plan: Plan, out: Path) -> dict[str, Path]:
    """stage -> its config in `out`; one that is there stays as it is, perhaps edited."""
    paths = {stage: out / f"{stage}.yaml" for stage in plan.shares}
    for stage, path in paths.items():
        if not path.exists():
            values = values_of(plan, stage, out)
            parse(values, str(path))
            head = f"# {WHAT[stage]}\n# maskgit train {path}\n"
            write_yaml(values, path, head)
    return paths


def load_configs(paths: Mapping[str, Path]) -> dict[str, Config]:
    """stage -> its config as it is now."""
    return {stage: load(path) for stage, path in paths.items()}


def values_of(plan: Plan, stage: str, out: Path) -> dict[str, Any]:
    """What a stage's config holds."""
    data = {"source": plan.source, **plan.data}
    run = {"run": str(out / stage)}
    if stage in ("perceptual", "classifier"):
        seed = {"seed": 1 if stage == "perceptual" else 0}  # two nets that do not err alike
        train = _train(plan, stage, 2 * BATCH, 1e-3, weight_decay=1e-2)
        return {"task": "classifier", **run, **seed, "data": data, "train": train}
    if stage == "vqgan":
        rate = 2e-3 if plan.tokenizer["widths"][0] <= 48 else 1e-3
        train = _train(plan, stage, BATCH, rate, betas=[0.9, 0.99], weight_decay=1e-4)
        values = {"task": "tokenizer", **run, "data": data, "model": plan.tokenizer}
        if "perceptual" in plan.shares:
            weights = {"name": "classifier", "weights": str(out / "perceptual")}
            values["loss"] = {"perceptual": weights, "perceptual_weight": 4.0}
        return {**values, "train": train}
    places = {"tokenizer": str(out / "vqgan"), "codes": str(out / "codes")}
    settings: dict[str, Any] = {
        "loss": {"schedule": "cosine", "label_smoothing": 0.0},
        "sampler": {"name": "random", "steps": 18},
        "guidance": {"scale": 2.0, "schedule": "linear"},
    }
    rate = 3e-3 if plan.generator["dim"] <= 128 else 1e-3
    train = _train(plan, stage, BATCH, rate)
    if "balance" in plan.data:
        settings["balance"] = plan.data["balance"]
    return {"task": "maskgit", **run, **places, "model": plan.generator, **settings, "train": train}


def _train(plan: Plan, stage: str, batch_size: int, rate: float, **options: Any) -> dict[str, Any]:
    """By time, with some six evaluations on the way where its steps are known about."""
    steps = plan.steps_of(stage) if stage in plan.seconds else 1000
    every = max(20, int(steps / 6) // 10 * 10)
    return {
        "minutes": plan.minutes_of(stage), "batch_size": batch_size, "learning_rate": rate,
        **options, "warmup_steps": min(100, max(5, int(steps / 20))), "eval_every": every,
        "preview_every": 2 * every, "save_every": every, "max_eval_images": 250, "trackers": [],
    }  # fmt: skip
