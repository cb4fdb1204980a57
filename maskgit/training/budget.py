"""`train.minutes`: the steps that a time holds here, found by a rehearsal and kept with the run.

The rehearsal trains a model of its own and forgets it. So the run is, bit for bit, one of
`train.steps`: its schedules end with it, and it resumes as any other.
"""

from __future__ import annotations

import hashlib
import json
import sys
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from maskgit.config.loading import flatten, to_dict
from maskgit.config.marks import may_change
from maskgit.config.sections import Config, DataConfig, TokenizerConfig, TrainConfig
from maskgit.data.datasets import Batch
from maskgit.data.order import StepOrder, batches
from maskgit.machine import seconds_of
from maskgit.training.checkpoints import checkpoints
from maskgit.training.learner import whole
from maskgit.training.meter import Stopwatch
from maskgit.training.tasks import TASKS, Task
from vqgan.files import replacing

BUDGET = "budget.json"
"""In a run's folder: the minutes that were asked for, and the steps found."""
SHARE, LONGEST = 0.05, 15.0
"""Of the time, and seconds at most, that steps are measured for."""
WARM_UP, MOST = 2, 100
"""Steps that do not count, and those that do at most."""
WORTH_COMPILING = 10
"""Minutes from which on `train.compile=auto` compiles on an accelerator."""
NO_END = 10**9
"""Steps of a rehearsal's config, so that nothing in it ends."""


class Costs(NamedTuple):
    """Seconds of a step before and after a discriminator joins, of an evaluation, a preview."""

    step: float
    later: float
    evaluation: float
    preview: float
    joins: int = 0  # the step from which on `later` counts

    def seconds(self, steps: int, train: TrainConfig) -> float:
        """Of so many steps, with what is due between them and at the end."""
        before = min(steps, self.joins)
        return (
            before * self.step
            + (steps - before) * self.later
            + (1 + (steps - 1) // train.eval_every) * self.evaluation
            + (1 + (steps - 1) // train.preview_every) * self.preview
        )

    def steps_in(self, seconds: float, train: TrainConfig) -> int:
        """The most that fit, one at least."""
        fit = bisect_right(range(NO_END), seconds, lo=1, key=lambda n: self.seconds(n, train))
        return max(1, fit - 1)


def with_steps(config: Config, accelerator: Accelerator) -> Config:
    """The same config by steps: those that its `train.minutes` hold, on all processes alike.

    They are found once and kept in the run's folder; other minutes then are in proportion.
    """
    minutes, path = config.train.minutes, Path(config.run) / BUDGET
    if minutes is None:
        return config
    train = config.train.model_copy(
        update={"minutes": None, "compile": _is_compiled(config.train, minutes, accelerator)}
    )
    about = _about(config)
    known = _agreed(accelerator, _kept(path, about))
    if known is None:
        if accelerator.is_main_process:
            print(f"measuring what {minutes:g} minutes hold", file=sys.stderr, flush=True)
        endless = train.model_copy(update={"steps": NO_END})
        spent, costs = _rehearse(config.model_copy(update={"train": endless}), accelerator, minutes)
        steps = _agreed(accelerator, costs.steps_in(60 * minutes - spent, train))
    else:
        steps = max(1, round(known[1] * minutes / known[0]))
    if accelerator.is_main_process:
        here = "as measured" if known is None else "as measured when it began"
        said = f"{path.parent}: {minutes:g} minutes hold {steps} steps, {here}"
        print(said, file=sys.stderr, flush=True)
        with replacing(path) as aside:
            aside.write_text(json.dumps({"minutes": minutes, "steps": steps, "of": about}))
    return config.model_copy(update={"train": train.model_copy(update={"steps": steps})})


def _is_compiled(train: TrainConfig, minutes: float, accelerator: Accelerator) -> bool:
    """What `train.compile` comes to, where no steps are known yet."""
    if train.compile != "auto":
        return train.compile
    return accelerator.device.type != "cpu" and not train.shard and minutes >= WORTH_COMPILING


def _about(config: Config) -> str:
    """A hash of what a run may not change: steps found for another model say nothing."""
    free = tuple(f"{name}." for name in may_change(type(config)))
    kept = {k: v for k, v in flatten(to_dict(config)).items() if not f"{k}.".startswith(free)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _kept(path: Path, about: str) -> tuple[float, int] | None:
    """What was found before, minutes and steps, of the same config or of a run that has begun."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        values = json.loads(path.read_text())
        if values["of"] == about or checkpoints(path.parent):
            return float(values["minutes"]), int(values["steps"])
    return None


Told = TypeVar("Told")


def _agreed(accelerator: Accelerator, value: Told) -> Told:
    """The main process's."""
    if accelerator.num_processes == 1:
        return value
    told: list[Told] = broadcast_object_list([value])
    return told[0]


def _rehearse(config: Config, accelerator: Accelerator, minutes: float) -> tuple[float, Costs]:
    """The seconds that it took, but for making and compiling the model, and what was found."""
    with _quiet():
        torch.manual_seed(config.seed)
        task = TASKS[config.task](config, accelerator)
        adversarial = config.loss.adversarial if isinstance(config, TokenizerConfig) else None
        joins = 0 if adversarial is None else adversarial.start_step
        longest = min(LONGEST, SHARE * 60 * minutes) / (2 if joins else 1)
        watch = Stopwatch()
        step = _seconds_of_a_step(task, config, accelerator, 0, longest)
        later = _seconds_of_a_step(task, config, accelerator, joins, longest) if joins else step
        spent = watch.lap()
        with whole(task.learners):
            evaluation = seconds_of(task.evaluate)
            preview = seconds_of(task.preview) if accelerator.is_main_process else 0.0
        accelerator.wait_for_everyone()
        del task
        accelerator.free_memory()
    if _is_compiled(config.train, minutes, accelerator):
        spent = 2 * longest  # compiling does not count
    return spent + evaluation + preview, Costs(step, later, evaluation, preview, joins)


def _seconds_of_a_step(
    task: Task, config: Config, accelerator: Accelerator, first: int, longest: float
) -> float:
    """The mean of some, from the number `first` on; all processes make as many."""
    order = StepOrder(
        len(task.dataset), config.train.batch_size, seed=config.seed, start=0, stop=NO_END,
        rank=accelerator.process_index, world=accelerator.num_processes,
        accumulate=config.train.accumulate,
    )  # fmt: skip
    parts = batches(task.dataset, order, workers=getattr(config, "data", DataConfig()).workers)

    def go(start: int, number: int) -> float:
        """The seconds of so many."""

        def work() -> None:
            for step in range(start, start + number):
                _step(task, step, [next(parts) for _ in range(config.train.accumulate)])

        return seconds_of(work)

    go(first, WARM_UP)
    one = go(first + WARM_UP, 1)
    more = _agreed(accelerator, min(MOST, int(longest / max(one, 1e-6))))
    return (one + go(first + WARM_UP + 1, more)) / (1 + more)


def _step(task: Task, step: int, parts: list[Batch]) -> None:
    """One, of which nobody asks what came of it."""
    for learner in task.learners.values():
        learner.keep_buffers()
    try:
        task.update(step, parts)
    except FloatingPointError:  # as in a training, where it changes nothing
        for learner in task.learners.values():
            learner.give_up()


SAID_AGAIN = ("images: ", "the first steps compile", "only ")
"""Beginnings of what the training will say itself."""


@contextmanager
def _quiet() -> Iterator[None]:
    """What is said on stderr inside comes at the end, but what will be said again."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            if not line.startswith(SAID_AGAIN):
                print(line, file=sys.stderr, flush=True)
