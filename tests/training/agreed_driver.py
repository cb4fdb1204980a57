"""Two processes look for the newest checkpoint, each on a disk of its own; prints as JSON what each
of them found, or why it ended.

    torchrun --nproc_per_node 2 tests/training/agreed_driver.py SCRATCH

A case is the steps that lie on the disk of each process, and what a checkpoint holds.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate.utils import gather_object

from maskgit.config.sections import TrainConfig
from maskgit.processes import leave_group
from maskgit.training import resume
from maskgit.training.checkpoints import checkpoints, save_checkpoint
from maskgit.training.launch import make_accelerator

CASES = {
    "the same": ([2, 4], [2, 4]),
    "one more": ([2, 4], [2, 4, 6]),
    "one less": ([2, 4], [2]),
    "other weights": ([2, 4], [2, -4]),
    "only the main one": ([2, 4], []),
    "only the other one": ([], [2, 4]),
    "none": ([], []),
    "the newest is broken": ([2, 4], [2, 4]),
    "all are broken": ([2], [2]),
    "none suits": ([2], [2]),
}

scratch = Path(sys.argv[1])
accelerator = make_accelerator(TrainConfig(trackers=[], precision="fp32"), scratch)
found = {}
for name, steps in CASES.items():
    run = scratch / name / str(accelerator.process_index)
    for step in steps[accelerator.process_index]:
        save_checkpoint(
            run, abs(step), {"a.module": {"x": torch.full((3,), float(step))}}, {}, keep=9
        )
    if "broken" in name:
        (checkpoints(run)[-1] / "a.module.safetensors").unlink()
    suits = (lambda state: False) if name == "none suits" else (lambda state: True)
    try:
        checkpoint = resume.load_agreed(accelerator, run, suits)
        mine = checkpoint and checkpoint.step
    except ValueError as error:
        mine = str(error)
    found[name] = gather_object([mine])
if accelerator.is_main_process:
    print(json.dumps(found))
leave_group()
