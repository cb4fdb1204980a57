"""ClassifierTask: real images -> the judge of class agreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from maskgit.config.loading import to_dict
from maskgit.config.sections import ClassifierConfig
from maskgit.data.alpha import on_colour, seen_channels
from maskgit.data.datasets import Batch, image_datasets
from maskgit.data.fingerprint import data_hash
from maskgit.machine import upload
from maskgit.randomness import generator
from maskgit.training.averages import Averages, shared_batches
from maskgit.training.learner import Learner, finish
from maskgit.training.metrics_log import read_metrics
from maskgit.training.resume import Classes, take_weights
from maskgit.training.writing import frozen
from vqgan.classifier import SMALLEST, Classifier
from vqgan.weights import load_weights, weights_of, within_memory


def shift(images: Tensor, max_shift: int, draws: torch.Generator) -> Tensor:
    """Each image moved by up to max_shift pixels in both directions, its border repeated."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (max_shift,) * 4, mode="replicate")
    offsets = torch.randint(
        2 * max_shift + 1, (2, len(images)), generator=draws, device=images.device
    )
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.movedim(1, -1)[which, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


class ClassifierTask:
    """Trains vqgan.classifier.Classifier."""

    unit, num_units, made_from = "images", 1, ""

    def __init__(self, config: ClassifierConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        if config.data.image_size < SMALLEST:
            raise ValueError(
                f"data.image_size={config.data.image_size}: a classifier sees images of "
                f"{SMALLEST} pixels or more"
            )
        self.dataset, self.validation = image_datasets(config.data, Path(config.run), config.seed)
        self.data_hash = data_hash(self.dataset, self.validation)
        self.class_names = self.dataset.source.class_names
        options: dict[str, Any] = config.model.model_dump()
        options["channels"] = seen_channels(config.data.channels)
        options["num_classes"] = len(self.class_names)
        classifier = within_memory(lambda: Classifier(**options), "model")
        self.main = Learner(classifier, accelerator, config.train)
        self.learners: dict[str, Learner[Any]] = {"classifier": self.main}

    def take_weights(self, path: Path) -> None:
        """Start from another classifier's weights; its classes keep their rows."""
        weights = weights_of(path, "classifier")
        before = load_weights(weights, "classifier")[0].get("class_names", ())
        classes = Classes(before, self.class_names, ("to_logits.weight", "to_logits.bias"))
        take_weights(self.main.module, weights, "classifier", classes)

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step of cross-entropy on images shifted by up to `shift` pixels."""
        learner, device = self.main, self.accelerator.device
        total = torch.zeros((), device=device)
        for number, batch in enumerate(parts):
            place = (self.config.seed, step, self.accelerator.process_index, number)
            draws = generator("augmentation", *place, device=device)
            images = shift(self._images(batch), self.config.shift, draws)
            with learner.together(number == len(parts) - 1):
                loss = F.cross_entropy(
                    learner.ddp(images), upload(batch.labels, device), label_smoothing=0.05
                ) / len(parts)
                self.accelerator.backward(loss)
            total += loss.detach()
        [norm] = finish(total, (learner, step))
        return {"loss": total, "gradient_norm": norm}

    def _images(self, batch: Batch) -> Tensor:
        return on_colour(batch.images(self.accelerator.device), self.config.data.background)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """accuracy on held-out real images."""
        device, most = self.accelerator.device, self.config.train.max_eval_images
        averages = Averages(self.accelerator, "accuracy")
        for _, batch in shared_batches(self.validation, most, self.accelerator):
            logits = self.main.averaged(self._images(batch))
            right = logits.argmax(-1) == upload(batch.labels, device)
            averages.add("accuracy", right.sum(), len(right))
        return averages.means()

    def preview(self) -> Image.Image | None:
        """A classifier has nothing to show."""
        return None

    @property
    def exported(self) -> Path:
        """The weights file."""
        return Path(self.config.run) / "classifier.safetensors"

    def exporting(self) -> Callable[[], object]:
        """What writes the averaged classifier with the class names and its newest accuracy."""
        rows = read_metrics(Path(self.config.run) / "metrics.jsonl")
        accuracy = [row["accuracy"] for row in rows if "accuracy" in row]
        names = {"class_names": list(self.class_names), "run": to_dict(self.config)}
        about = names | ({"accuracy": accuracy[-1]} if accuracy else {})
        return partial(frozen(self.main.averaged).save, self.exported, about)
