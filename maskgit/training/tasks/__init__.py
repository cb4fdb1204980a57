"""TASKS: what can be trained. A task owns modules, optimisers and data; the trainer knows only
`Task`.

A task is made with `(config, accelerator)`, so that modules which ask whether they are distributed
hear the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from maskgit.data.datasets import Batch, Dataset
from maskgit.training.learner import Learner
from maskgit.training.tasks.classifier import ClassifierTask
from maskgit.training.tasks.critic import CriticTask
from maskgit.training.tasks.decoder import DecoderTask
from maskgit.training.tasks.maskgit import MaskGITTask
from maskgit.training.tasks.tokenizer import TokenizerTask


class Task(Protocol):
    """All that the trainer may know."""

    learners: dict[str, Learner[Any]]
    unit: str  # what "per second" counts, `num_units` of it in an image
    num_units: int
    made_from: str  # the weights that a resumed run must have been trained with, "" if any
    data_hash: str  # of the data, wherever it lies; "" if that is not known

    @property
    def class_names(self) -> Sequence[str]:
        """That a resumed run must have; none where labels do not matter."""
        ...

    @property
    def dataset(self) -> Dataset:
        """What it is trained on."""
        ...

    def take_weights(self, path: Path) -> None:
        """Start from a run's, a pipeline's or a file's weights, as far as they fit."""
        ...

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimiser step on the micro-batches of this process -> detached scalars."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Numbers on the validation split, by averaged weights; on all processes together."""
        ...

    def preview(self) -> Image.Image | None:
        """A picture of what the averaged weights do now; called on the main process."""
        ...

    @property
    def exported(self) -> Path:
        """Where weights are exported to."""
        ...

    def exporting(self) -> Callable[[], object]:
        """What writes the averaged weights, as they are now, and their config to the run folder;
        made on the main process, called in any thread."""
        ...


TASKS: dict[str, Callable[..., Task]] = {
    "tokenizer": TokenizerTask,
    "maskgit": MaskGITTask,
    "critic": CriticTask,
    "decoder": DecoderTask,
    "classifier": ClassifierTask,
}
