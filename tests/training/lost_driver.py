"""Kill -9 one of two processes of a training, as torchrun would end the other; then run it again.

    python tests/training/lost_driver.py CONFIG.json SCRATCH [drift | one]

Prints JSON: of each moment, how the other ended, within how many seconds, what it said, the step
of the newest checkpoint then, and what the run ends with when it is run again. With `drift` as a
third word nobody is killed, but a weight of one process differs from the third step on;
with `one`, only one moment is tried.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from maskgit.cli import main as run_command
from maskgit.training import guard, trainer
from maskgit.training.checkpoints import checkpoints
from maskgit.training.tasks import tokenizer
from maskgit.training.tasks.adversary import Adversary
from tests.conftest import free_port, leave_after
from tests.training.resume_driver import die, digests, on_call


def nudge():
    """One number of one parameter, in the third step; less would be rounded away."""
    real = trainer.Training.one_step

    def nudged(self, parts):
        real(self, parts)
        if self.step == 3:
            values = self.task.learners["tokenizer"].parameters[0].data.view(-1)
            values[0] *= 1.001

    trainer.Training.one_step = nudged


MOMENTS = {
    "before a step": (1, lambda: on_call(trainer.Training, "one_step", 4, die)),
    "before gradients are exchanged": (1, lambda: on_call(trainer.Accelerator, "backward", 6, die)),
    "before the optimiser": (1, lambda: on_call(tokenizer, "finish", 4, die)),
    "after the optimiser": (1, lambda: on_call(Adversary, "remember", 3, die)),
    "in an evaluation": (1, lambda: on_call(trainer.Training, "_evaluate", 1, die)),
    "before a save": (1, lambda: on_call(guard, "check_alike", 2, die)),
    "the main one, before a step": (0, lambda: on_call(trainer.Training, "one_step", 4, die)),
}


def fork(words, rank, port, said, patch):
    child = os.fork()
    if child:
        return child
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    patch()
    leave_after(lambda: run_command(words))
    return None


def run(words, scratch, victim=1, patch=lambda: None):
    """-> how the other ended, and how many seconds after the victim."""
    port, said = free_port(), [scratch / f"said{rank}" for rank in range(2)]
    patches = [patch if rank == victim else lambda: None for rank in range(2)]
    children = [fork(words, rank, port, said[rank], patches[rank]) for rank in range(2)]
    ended = os.waitstatus_to_exitcode(os.waitpid(children[victim], 0)[1])
    start, other = time.monotonic(), 1 - victim
    if ended == -signal.SIGKILL:
        time.sleep(0.1)
        os.kill(children[other], signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(children[other], 0)[1])
    return {
        "victim": ended, "status": status, "seconds": time.monotonic() - start,
        "said": said[other].read_text(),
    }  # fmt: skip


def drifting(config, scratch):
    """Checked every five steps, and saved first after six."""
    guard.CHECK_EVERY = 5
    words = ["train", config, f"run={scratch / 'drift'}", "train.save_every=6"]
    return run(words, scratch, 1, nudge) | {
        "steps": [path.name for path in checkpoints(scratch / "drift")]
    }


def killed_once(config, scratch):
    """Before the fourth step, and then run again."""
    words = ["train", config, f"run={scratch / 'one'}"]
    found = run(words, scratch, *MOMENTS["before a step"])
    found["steps"] = [path.name for path in checkpoints(scratch / "one")]
    return found | {"again": run(words, scratch), "end": digests(scratch / "one")["step"]}


def main():
    config, scratch = sys.argv[1], Path(sys.argv[2])
    if sys.argv[3:] == ["one"]:
        print(json.dumps(killed_once(config, scratch)))
        return
    if sys.argv[3:] == ["drift"]:
        print(json.dumps(drifting(config, scratch)))
        return
    results = {}
    for number, (name, (victim, patch)) in enumerate(MOMENTS.items()):
        folder = scratch / f"run{number}"
        words = ["train", config, f"run={folder}"]
        found = run(words, scratch, victim, patch)
        found["steps"] = [path.name for path in checkpoints(folder)]
        again = run(words, scratch)
        assert again["victim"] == again["status"] == 0, again
        results[name] = found | {"end": digests(folder)}
    folder = scratch / "whole"
    run(["train", config, f"run={folder}"], scratch)
    print(json.dumps({"whole": digests(folder), "moments": results}))


if __name__ == "__main__":
    main()
