"""Before a training: its precision, its trackers, and its place among the processes."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    ProjectConfiguration,
)

from maskgit.config.loading import flatten, load, save, to_dict
from maskgit.config.sections import Config, TrainConfig
from maskgit.machine import processor, quicken
from maskgit.precision import best_precision
from maskgit.processes import MEETING, cpu_only
from vqgan.files import replacing

LONGEST_WAIT = timedelta(minutes=10)
"""Of a process for the others: then they are dead, and end, so that a launcher starts them again.

Not shorter, since it is also that for a preview, a save or a reading of data which the main process
does alone, perhaps from a slow disk; a process that is killed is noticed at once, by its closed
connections."""


def with_precision(config: Config) -> Config:
    """The config, `auto` precision decided: as the run started, else the quicker one here."""
    if config.train.precision != "auto":
        return config
    started = Path(config.run) / "config.yaml"
    if started.is_file():
        found: str = load(started).train.precision
    else:
        found = best_precision()
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": found})})


def check_trackers(train: TrainConfig) -> None:
    """ValueError if one is not installed: accelerate would leave it out."""
    missing = set(train.trackers) - {str(tracker) for tracker in get_available_trackers()}
    if missing:
        raise ValueError(
            f"train.trackers: {', '.join(sorted(missing))}: not installed, "
            "or not known to accelerate"
        )


def make_accelerator(train: TrainConfig, run: Path) -> Accelerator:
    """The process group, the device, the precision and the trackers."""
    check_trackers(train)
    quicken()
    # an earlier training in this process may have had another precision
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=cpu_only(),
        kwargs_handlers=[
            InitProcessGroupKwargs(init_method=MEETING, timeout=LONGEST_WAIT),
            # gradients lie where they are exchanged: no copy, and their memory once
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
        mixed_precision="bf16" if train.precision == "bf16" else "no",
        log_with=list(train.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(run), logging_dir=str(run / "logs")),
    )


def write_down(config: Config, folder: Path, num_processes: int) -> None:
    """What a run is, config.yaml, and on what it runs, machine.txt, which its card tells."""
    save(config, folder / "config.yaml")
    threads = f"{num_processes} x {processor()}, {torch.get_num_threads()} threads"
    name = (
        f"{num_processes} x {torch.cuda.get_device_name()}"
        if torch.cuda.is_available()
        else threads
    )
    with replacing(folder / "machine.txt") as aside:
        aside.write_text(f"{name}\n")


def start_trackers(accelerator: Accelerator, config: Config, step: int) -> None:
    """Those that the config wants, if any; rows after this step are of a run that was cut short.

    stderr says from which step a run continues.
    """
    if step and accelerator.is_main_process:
        said = f"{config.run}: continuing from step {step} of {config.train.steps}"
        print(said, file=sys.stderr, flush=True)
    wanted = config.train.trackers
    if wanted:
        purge = {"tensorboard": {"purge_step": step}} if "tensorboard" in wanted else {}
        accelerator.init_trackers("maskgit", flatten(to_dict(config)), purge)
