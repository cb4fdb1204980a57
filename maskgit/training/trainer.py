"""One loop trains every task: accumulate, clip, average, log, evaluate, checkpoint, resume.

To resume, run the same command again. Everything random is a function of (seed, step, rank), so a
run that was killed at any moment ends with the weights of one that was not, bit for bit.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from maskgit.config.loading import load
from maskgit.config.sections import Config
from maskgit.data.balance import balanced
from maskgit.data.order import StepOrder, batches
from maskgit.data.pixels import save_png
from maskgit.machine import peak_memory
from maskgit.processes import held
from maskgit.randomness import mixed_seed
from maskgit.stopping import Stopped, listening, stop_requested
from maskgit.training import guard
from maskgit.training.budget import with_steps
from maskgit.training.checkpoints import Checkpoint, checkpoints, clean, save_checkpoint
from maskgit.training.launch import make_accelerator, start_trackers, with_precision, write_down
from maskgit.training.learner import PARTS, Outcome, learning_rate_at, whole
from maskgit.training.lost import saving_alone
from maskgit.training.meter import Meter, Stopwatch
from maskgit.training.metrics_log import MetricsLog
from maskgit.training.resume import check_made_of, check_same, load_agreed, made_of
from maskgit.training.tasks import TASKS, Task
from maskgit.training.tasks.preview import show
from maskgit.training.writing import Writing, exporting, in_memory


def train(config: Config) -> Path:
    """Train to the last step, from the newest good checkpoint -> the path of the exported weights.

    Raises Stopped after a signal that asks for it, FloatingPointError if the loss or a gradient is
    not finite, ValueError if the run folder holds a run with another config, or is in use.
    """
    config = with_precision(config)
    accelerator = make_accelerator(config.train, Path(config.run))
    with held(config.run, "train"):
        return Training(with_steps(config, accelerator), accelerator).run()


class Training:
    """The state of one call of `train`."""

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.train, self.accelerator = config, config.train, accelerator
        self.folder = Path(config.run)
        moved: list[str] = []
        if checkpoints(self.folder):
            moved = check_same(load(self.folder / "config.yaml"), config, self.folder)
        torch.manual_seed(config.seed)
        self.task: Task = TASKS[config.task](config, accelerator)
        self.guard, self.evaluated = guard.Guard(), 0
        self.is_between = True  # two steps, not in the middle of one
        self.step = self.saved = self._resume(moved)
        self.order = StepOrder(
            len(self.task.dataset), self.train.batch_size, seed=config.seed,
            start=self.step, stop=self.train.steps, accumulate=self.train.accumulate,
            rank=accelerator.process_index, world=accelerator.num_processes,
            balance=balanced(config, self.task.dataset),
        )  # fmt: skip
        if self.is_main:  # only now: a start that failed leaves no config to be compared with
            write_down(config, self.folder, accelerator.num_processes)
            clean(self.folder)
            self.metrics = MetricsLog(self.folder / "metrics.jsonl", self.step)
        self.first = next(iter(self.task.learners.values()))
        self.open: deque[tuple[int, dict[str, Any], Outcome]] = deque()  # not asked for yet
        self.meter, self.stop = Meter(), 0  # the signal that any process heard, of steps asked for
        self.watch, self.steps_since = Stopwatch(), 0
        self.writing = Writing()

    @property
    def is_main(self) -> bool:
        """Whether this process is the main one."""
        return self.accelerator.is_main_process

    def _resume(self, moved: Sequence[str]) -> int:
        """Load the newest checkpoint that verifies -> its step, 0 without one."""
        found = load_agreed(self.accelerator, self.folder)
        if found is None:
            if self.config.init_from is not None:
                self.task.take_weights(Path(self.config.init_from))
            return 0
        check_made_of(found, self.task, moved, self.folder)
        self._load(found)
        return found.step

    def _load(self, found: Checkpoint) -> None:
        for name, learner in self.task.learners.items():
            state = {part: found.tensors.get(f"{name}.{part}", {}) for part in PARTS}
            learner.load_state(state, str(self.folder))
        self.guard = guard.Guard(found.state.get("guard"))
        self.evaluated = found.state.get("evaluated", found.step)

    def run(self) -> Path:
        """The loop."""
        if self.step >= self.train.steps:
            self._catch_up(tqdm(disable=True))
            if self.is_main:
                print(f"{self.folder} is trained to step {self.step} already", file=sys.stderr)
            if export := exporting(self.task, self.is_main):  # the config may name a new sampler
                export()
            self.accelerator.wait_for_everyone()
            return self.task.exported
        start_trackers(self.accelerator, self.config, self.step)
        try:
            with listening(), self.writing, saving_alone(self):
                self._loop()
                if stop := self.stop_signal():  # it came while the last step was saved
                    raise self._stopped(stop)
        finally:
            for tracker in self.accelerator.trackers:
                tracker.finish()
        return self.task.exported

    def _loop(self) -> None:
        data = getattr(self.config, "data", None)
        parts = iter(batches(self.task.dataset, self.order, workers=data.workers if data else 0))
        bar = tqdm(
            total=self.train.steps, initial=self.step, unit="step", desc=self.folder.name,
            dynamic_ncols=True,
            disable=not self.is_main, mininterval=1.0,
        )  # fmt: skip
        with bar:
            self._catch_up(bar)
            self.watch.lap()
            while self.step < self.train.steps:
                self.one_step([next(parts) for _ in range(self.train.accumulate)])
                bar.update()
                self._after_step(bar)

    def _catch_up(self, bar: tqdm[Any]) -> None:
        """What was due after the step that is resumed from, and was not done: a signal came."""
        train, here, last = self.train, self.step, self.step >= self.train.steps
        if here and (here % train.eval_every == 0 or last) and self.evaluated != here:
            self._evaluate(bar)
        there = torch.tensor([self.picture.exists()], device=self.accelerator.device)
        is_there = self.accelerator.gather(there)[0].item()  # the main process decides for all
        if here and (here % train.preview_every == 0 or last) and not is_there:
            self._preview()

    @property
    def picture(self) -> Path:
        """The preview of this step."""
        return self.folder / "previews" / f"step_{self.step:08d}.png"

    def one_step(self, parts: list[Any]) -> None:
        """One step; the global generators are seeded too, since our dependencies draw from them.

        A step that is not finite is given up, on all processes together. What came of it is asked
        of an accelerator after the next step.
        """
        rank = self.accelerator.process_index
        torch.manual_seed(mixed_seed("dropout", self.config.seed, self.step, rank))
        for learner in self.task.learners.values():
            learner.keep_buffers()
        step, logs, reason = self.step, {}, ""
        self.is_between = False
        try:
            logs = self.task.update(step, parts)
            outcome = self.first.outcome
        except FloatingPointError as error:
            for learner in self.task.learners.values():
                learner.give_up()
            outcome, reason = None, str(error)
        self.step, self.steps_since, self.is_between = step + 1, self.steps_since + 1, True
        if outcome is None:
            self._close(step, reason)
        else:
            self.open.append((step, logs, outcome))
            self._settle(int(outcome.is_open))

    def _settle(self, left: int = 0) -> None:
        """Ask what came of the last steps, but for so many."""
        while len(self.open) > left:
            step, logs, outcome = self.open.popleft()
            try:
                loss = outcome.loss
            except FloatingPointError as error:
                for learner in self.task.learners.values():
                    learner.left_out()
                self._close(step, str(error))
                continue
            self.meter.add(logs)
            self.stop = outcome.stop
            if self.guard.passed(loss):
                self._go_back(f"the loss is {loss:.4g}")

    def _close(self, step: int, reason: str) -> None:
        """A step changed nothing: note its images, and go back if it is one too many."""
        if self.is_main:
            guard.note_given_up(self.config, step, reason, self.task.dataset)
        if self.guard.gave_up():
            self._go_back(reason)

    def _go_back(self, reason: str) -> None:
        """Go on with the weights of the last checkpoint, and with the next data; but once."""
        self.writing.wait()
        found = load_agreed(
            self.accelerator,
            self.folder,
            lambda state: not guard.Guard(state.get("guard")).in_doubt,
        )
        if found is None or self.guard.went_back:
            raise guard.diverged(self.folder, self.step, self.train, reason)
        if self.is_main:
            here = f"diverged at step {self.step} ({reason})"
            there = f"going on from the weights of step {found.step}"
            print(f"{here}: {there}", file=sys.stderr, flush=True)
        self.open.clear()
        self._load(found)
        self.guard.go_back()

    def _after_step(self, bar: tqdm[Any]) -> None:
        """What is due now; after a signal, only what a resumed run needs.

        The order matters: a checkpoint is written after the rows that belong to its step, and
        before the preview, which may fail.
        """
        train, last = self.train, self.step == self.train.steps
        self.writing.check()
        alone = self.accelerator.num_processes == 1
        stop = stop_requested() if alone else self.stop
        every = (train.log_every, train.eval_every, train.save_every, train.preview_every)
        if last or stop or not all(self.step % number for number in every):
            self._settle()
        if self.step % guard.CHECK_EVERY == 0:
            guard.check_alike(self.accelerator, self.task.learners, self.step)
        if self.step % train.log_every == 0 or last or stop:
            self._log(bar)
        if (self.step % train.eval_every == 0 or last) and not stop:
            with self.watch.paused():
                self.writing.wait()  # data workers are forked with no thread beside them
                self._evaluate(bar)
            stop = self.stop_signal()
        if (self.step % train.save_every == 0 and not self.guard.in_doubt) or last or stop:
            with self.watch.paused():
                self._save(wait=bool(last or stop))
        if (self.step % train.preview_every == 0 or last) and not stop:
            with self.watch.paused():
                self._preview()
            stop = self.stop_signal()
        if stop:
            if self.saved != self.step:
                self._save()
            self.written()
            raise self._stopped(stop)

    def stop_signal(self) -> int:
        """The signal that any process has received, agreed among all of them."""
        if self.accelerator.num_processes == 1:
            return stop_requested()
        number = torch.tensor(stop_requested(), device=self.accelerator.device)
        return int(self.accelerator.gather(number[None]).max().item())

    def _stopped(self, number: int) -> Stopped:
        return Stopped(number, f" at step {self.step}")

    def _log(self, bar: tqdm[Any]) -> None:
        """The means since the last log, over all processes, and the speed."""
        means = self.meter.means(self.accelerator)  # which waits for the steps
        seconds, images = self.watch.lap(), self.steps_since * self.train.batch_size
        is_new = bool(means)  # unless all steps were given up
        means[f"{self.task.unit}_per_second"] = images * self.task.num_units / seconds
        means["peak_memory_mib"] = peak_memory()
        means["learning_rate"] = learning_rate_at(
            self.step - 1, self.train, self.train.learning_rate
        )
        if is_new:
            self._write(means)
            bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
        self.steps_since = 0

    def _evaluate(self, bar: tqdm[Any]) -> None:
        with whole(self.task.learners):
            values = self.task.evaluate()
        if self.stop_signal():  # which ended it early
            return
        self._write(values)
        self.evaluated = self.step
        if self.is_main:
            shown = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
            bar.write(f"{self.folder.name} step {self.step}: {shown}", file=sys.stderr)

    def _write(self, values: dict[str, float]) -> None:
        if self.is_main:
            self.metrics.write(self.step, values)
        if self.train.trackers:
            self.accelerator.log(values, step=self.step)

    def _preview(self) -> None:
        with whole(self.task.learners), suppress(Stopped):
            picture = self.task.preview() if self.is_main else None
            if picture is not None:
                save_png(picture, self.picture)
                show(picture, self.step, self.accelerator.trackers)
        self.accelerator.wait_for_everyone()

    def _save(self, wait: bool = False) -> None:
        """A checkpoint and the exported weights as they are now, by a thread of the main process.

        FloatingPointError, on all processes, if there is a number that is not finite, RuntimeError
        if they do not hold the same weights: then nothing is written. wait: until it is.
        """
        guard.check_alike(self.accelerator, self.task.learners, self.step)
        self.write_checkpoint()
        if wait:
            self.written()

    def written(self) -> None:
        """All processes wait until what was saved lies on the disk; OSError if it cannot."""
        self.writing.wait()
        self.accelerator.wait_for_everyone()

    def write_checkpoint(self) -> None:
        """What `_save` begins; without shards the main process need not ask the others."""
        self.writing.wait()
        tensors = {
            f"{name}.{part}": values
            for name, learner in self.task.learners.items()
            for part, values in learner.state().items()
        }
        if bad := guard.not_finite(tensors):
            raise guard.diverged(self.folder, self.step, self.train, f"{bad} is not finite")
        if self.is_main:
            kept, keep = in_memory(tensors), self.train.keep
            state = made_of(self.task, self.accelerator.num_processes)
            state |= {"guard": self.guard.state, "evaluated": self.evaluated}
            save = partial(save_checkpoint, self.folder, self.step, kept, state, keep)
        if export := exporting(self.task, self.is_main):
            self.writing.begin(save, export)
        self.saved = self.step
