"""Lost: a data worker or another process of a training is killed; the main one saves alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from maskgit.processes import others_lost


@contextmanager
def saving_alone(training: Any) -> Iterator[None]:
    """Inside, the last step of a maskgit.training.trainer.Training is saved where one is killed.

    Unless it cannot be known to be whole. ConnectionError if it was another process.
    """
    try:
        yield
    except (RuntimeError, ChildProcessError) as error:
        is_lost, learners = others_lost(error), training.task.learners.values()
        if not is_lost and not isinstance(error, ChildProcessError):
            raise
        if not training.is_between and not any(learner.has_stepped for learner in learners):
            for learner in learners:
                learner.give_up()
            training.is_between = True
        has_all = training.is_main and not training.first.is_sharded
        if has_all and training.is_between and training.saved != training.step:
            training.write_checkpoint()
        training.writing.wait()
        if not is_lost:
            raise
        saved = f"step {training.saved} is saved, " if training.is_main and training.saved else ""
        raise ConnectionError(
            "another process of this training is gone, or does not answer, at step "
            f"{training.step}: {saved}the same command goes on"
        ) from error
