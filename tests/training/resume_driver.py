"""Kill -9 a training at many moments, run it again, and print the digests of what it ends with, as
JSON.

    python tests/training/resume_driver.py CONFIG.json SCRATCH PROCESSES

Everything is imported once; each run is a fork (or PROCESSES forks that form a group, one of which
is killed and the others then too, as torchrun does). A moment is a patch that kills the process it
runs in.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torchvision  # noqa: F401 (here, so that no fork imports it again)

torch.set_num_threads(1)

from maskgit import config as configs  # noqa: E402
from maskgit.pipeline.pipeline import Pipeline  # noqa: E402
from maskgit.training import checkpoints, trainer  # noqa: E402
from tests.conftest import free_port, leave_after  # noqa: E402
from vqgan.files import sha256  # noqa: E402
from vqgan.tokenizer import Tokenizer  # noqa: E402


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(owner, name, number, do, before=True):
    """Do something at the number-th call of a function."""
    real, count = getattr(owner, name), [0]

    def wrapper(*args, **kwargs):
        count[0] += 1
        if count[0] == number and before:
            do()
        result = real(*args, **kwargs)
        if count[0] == number:
            do()
        return result

    setattr(owner, name, wrapper)


def cut_short(owner, name, number):
    """Die at the number-th call after writing half of the file."""
    real, count = getattr(owner, name), [0]

    def wrapper(tensors, path, *args):
        real(tensors, path, *args)
        count[0] += 1
        if count[0] == number:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    setattr(owner, name, wrapper)


class Seen:
    """A module as one importer sees it, so that a patch reaches nobody else."""

    def __init__(self, module):
        self.__dict__.update(vars(module))


checkpoints.os = Seen(os)
STEP = (trainer.Training, "one_step")
MOMENTS = {
    "before the first step": lambda: on_call(*STEP, 1, die),
    "in the middle of an epoch": lambda: on_call(*STEP, 5, die),
    "after a step, before its save": lambda: on_call(*STEP, 4, die, before=False),
    "in the middle of a file of a save": lambda: cut_short(checkpoints, "save_file", 4),
    "before a finished save is renamed": lambda: on_call(checkpoints.os, "rename", 2, die),
    "between rename and pruning": lambda: on_call(checkpoints, "remove_folder", 1, die),
    "while old checkpoints are pruned": lambda: on_call(
        checkpoints.os, "rename", 4, die, before=False
    ),
    "while a tokenizer is exported": lambda: on_call(Tokenizer, "save", 2, die),
    "while a generator is exported": lambda: on_call(Pipeline, "save_pretrained", 2, die),
    "SIGTERM": lambda: on_call(*STEP, 3, lambda: os.kill(os.getpid(), signal.SIGTERM)),
}


def fork(config, rank, world, port, patch):
    child = os.fork()
    if child:
        return child
    if world > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
    leave_after(lambda: patched(config, patch))
    return None


def patched(config, patch):
    if patch is not None:
        patch()
    trainer.train(config)


def run(config, world, patch=None, victim=0):
    """-> how the victim ended: its exit status, or minus the signal that killed it."""
    port = free_port()
    children = {
        fork(config, r, world, port, patch if r == victim else None): r for r in range(world)
    }
    ended = {}
    while children:
        pid, status = os.wait()
        rank = children.pop(pid)
        ended[rank] = os.waitstatus_to_exitcode(status)
        if ended[rank] == -signal.SIGKILL:
            time.sleep(0.1)
            for other in children:
                os.kill(other, signal.SIGKILL)
    return ended[victim]


def digests(folder):
    """What a run ends with: its last checkpoint's tensors."""
    last = checkpoints.checkpoints(folder)[-1]
    assert checkpoints.why_broken(last) is None
    leftovers = [p.name for p in folder.rglob(f"{checkpoints.TEMPORARY}*")]
    return {"step": last.name, "leftovers": leftovers} | {
        p.name: sha256(p) for p in sorted(last.glob("*.safetensors"))
    }


def main():
    given = json.loads(Path(sys.argv[1]).read_text())
    scratch = Path(sys.argv[2])
    world = int(sys.argv[3])
    results = {}
    for number, (name, patch) in enumerate({"undisturbed": None, **MOMENTS}.items()):
        folder = scratch / f"run{number}"
        config = configs.parse({**given, "run": str(folder)}, "driver")
        ended = run(
            config, world, patch, victim=number % world if "step" in name or "epoch" in name else 0
        )
        if patch is not None and ended != 0:
            again = run(config, world)
            assert again == 0, again
        results[name] = {"ended": ended, **digests(folder)}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
