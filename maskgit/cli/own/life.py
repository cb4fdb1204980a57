"""`maskgit quickstart my/folder`: look, choose, train by time, and end with pictures and a verdict.

Everything lies in runs/NAME; the same command again goes on at the stage that was stopped.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from maskgit.cli.own.choosing import Plan, choose_all
from maskgit.cli.own.configs import load_configs, write_configs
from maskgit.cli.own.ending import end
from maskgit.cli.own.looking import look, source_of
from maskgit.cli.own.speed import best_threads
from maskgit.cli.stages import Stages
from maskgit.config.sections import Config, MaskGITConfig
from maskgit.data import tokenize_dataset
from maskgit.training import train
from vqgan.files import replacing

TITLES = {
    "perceptual": "train the net that the tokenizer's loss sees by",
    "vqgan": "train the tokenizer",
    "maskgit": "train the generator",
    "classifier": "train the judge",
}


def quickstart(
    folder: str, minutes: float, size: int | None, name: str | None, *, fresh: bool = False
) -> str:
    """-> the report; index.html in runs/NAME shows it."""
    out = Path("runs") / run_name(folder, name)
    source = source_of(folder)
    _check_apart(folder, out)
    if fresh and out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    stages = Stages(out / "stages.json")
    threads = best_threads()
    torch.set_num_threads(threads.number)
    print(f"threads: {threads.says}", file=sys.stderr, flush=True)
    plan = stages.run(
        "look and choose", lambda: planned(folder, source, minutes, size, out), continues=True
    )
    paths = write_configs(plan, out)
    configs = load_configs(paths)
    for stage, config in configs.items():
        stages.run(TITLES[stage], partial(train, config), continues=True)
        if stage == "vqgan":
            _tokenize(stages, configs)
    return stages.run("draw and measure", lambda: end(plan, configs, folder, out, stages.seconds))


def run_name(folder: str, name: str | None) -> str:
    """Given, or the folder's own; ValueError if that is no name of a folder."""
    found = name or Path(folder).expanduser().resolve().name
    if not re.fullmatch(r"\w[\w .+-]*", found):
        raise ValueError(f"{found!r} is no name for a folder in runs: set --name")
    return found


def _check_apart(folder: str, out: Path) -> None:
    """ValueError if the run would lie among the images, or they in the run."""
    images, run = Path(folder).expanduser().resolve(), out.resolve()
    if images.exists() and (images in (run, *run.parents) or run in images.parents):
        raise ValueError(
            f"{run} and the images in {images} would lie in one another: call quickstart from "
            "another folder, or set --name"
        )


def _tokenize(stages: Stages, configs: Mapping[str, Config]) -> None:
    generator = configs["maskgit"]
    assert isinstance(generator, MaskGITConfig)
    work = partial(tokenize_dataset, generator.tokenizer, generator.codes)
    stages.run("tokenise", work, continues=True)


def planned(folder: str, source: object, minutes: float, size: int | None, out: Path) -> Plan:
    """The plan of an earlier call, or a new one, said in lines and kept."""
    path = out / "plan.json"
    plan = _kept(path)
    if plan is not None:
        if plan.source != source:
            raise ValueError(f"{out} is of other images ({plan.source}): set --name, or --fresh")
        others = {"--minutes": minutes != plan.minutes}
        others["--size"] = size not in (None, plan.data["image_size"])
        words = " and ".join(option for option, is_other in others.items() if is_other)
        said = f" ({words} of now changes nothing: --fresh or --name)" if words else ""
        print(f"going on with the settings in {out}{said}", file=sys.stderr, flush=True)
        return plan
    found, _ = look(folder, out / "data.md")
    plan = choose_all(found, source, minutes, size)
    for line in plan.says:
        print(f"  {line}", file=sys.stderr, flush=True)
    with replacing(path) as aside:
        aside.write_text(json.dumps(asdict(plan), indent=1))
    return plan


def _kept(path: Path) -> Plan | None:
    """What an earlier call chose, if there was one."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        return Plan(**json.loads(path.read_text()))
    return None
