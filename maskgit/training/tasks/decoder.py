"""DecoderTask: a trained generator, frozen, and real images -> its decoder, used to its codes.

A decoder learns from codes that fit together; a generator's sometimes do not, and show as holes and
torn edges. Here it learns to make the original of codes that the generator has partly drawn anew
(after RobusTok, Qiu et al. 2025).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from maskgit.config.sections import DataConfig, DecoderConfig
from maskgit.data.datasets import Batch, image_datasets
from maskgit.data.fingerprint import data_hash
from maskgit.machine import upload
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_folder, read_hashed
from maskgit.randomness import mixed_seed, uniforms
from maskgit.training.averages import Averages, shared_batches
from maskgit.training.learner import Learner, finish
from maskgit.training.resume import take_weights
from maskgit.training.tasks.preview import first_classes
from maskgit.training.tasks.reconstruction import Compared, Comparison
from maskgit.training.writing import frozen
from vqgan import health

HOLES = 2**32 + 1
"""The round number of the noise that holes are made of: none of a sampler or an edit."""


class DecoderTask:
    """Trains the decoder of a pipeline's tokenizer; codes stay what they were."""

    unit, num_units = "images", 1

    def __init__(self, config: DecoderConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        parts, hashes = read_hashed(pipeline_folder(Path(config.generator)))
        self.frozen = Pipeline(**parts._asdict()).to(accelerator.device)
        if not self.frozen.data:
            raise ValueError(f"{config.generator} does not say what images it was trained on")
        data = DataConfig.model_validate(self.frozen.data)
        self.dataset, self.validation = image_datasets(data, Path(config.run), config.seed)
        self.data_hash = data_hash(self.dataset, self.validation)
        self.class_names = self.frozen.class_names
        self.made_from = f"generator {hashes['model']}, tokenizer {hashes['tokenizer']}"
        self.tokenizer = self.frozen.tokenizer
        decoder = copy.deepcopy(self.tokenizer.decoder).requires_grad_(True)
        self.main = Learner(decoder, accelerator, config.train)
        self.learners: dict[str, Learner[Any]] = {"decoder": self.main}
        self.compare = Comparison(
            config.loss, data.background, accelerator, self.tokenizer.memory_format
        )

    def take_weights(self, path: Path) -> None:
        """Start from the decoder of another pipeline."""
        weights = pipeline_folder(path) / "tokenizer.safetensors"
        take_weights(self.main.module, weights, "tokenizer", of="decoder.")

    @torch.no_grad()
    def redrawn(self, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        """Codes (batch, h, w) of images, of each a share of up to `loss.share` drawn anew."""
        codes = self.tokenizer.encode(images)
        u = upload(uniforms(seeds, HOLES, (1 + codes[0].numel(),)), codes.device)
        holes = u[:, 1:] < self.config.loss.share * u[:, :1]
        codes = codes.masked_fill(holes.view_as(codes), self.tokenizer.codebook_size)
        sampler = {"name": "random", "steps": self.config.loss.rounds}
        for filled in self.frozen.rounds(labels, seeds, codes=codes, sampler=sampler):
            codes = filled
        return codes

    def _loss(self, decoder: nn.Module, batch: Batch, seeds: Sequence[int]) -> Compared:
        """Of a batch through a decoder."""
        images = batch.images(self.accelerator.device)
        labels = upload(batch.labels, self.accelerator.device)
        codes = self.redrawn(images, labels, seeds)
        with self.accelerator.autocast():
            decoded = decoder(self.tokenizer.quantizer.lookup(codes))
        return self.compare(decoded.float(), images)

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step on images whose codes are partly drawn anew."""
        learner = self.main
        logs: dict[str, Tensor] = {}
        for number, batch in enumerate(parts):
            place = (self.config.seed, step, self.accelerator.process_index, number)
            seeds = [mixed_seed("redrawn", *place, i) for i in range(len(batch.data))]
            with learner.together(number == len(parts) - 1):
                found = self._loss(learner.ddp, batch, seeds)
                self.accelerator.backward(found.loss / len(parts))
            for key, value in (found.logs | {"loss": found.loss.detach()}).items():
                logs[key] = logs.get(key, torch.zeros_like(value)) + value / len(parts)
        [logs["gradient_norm"]] = finish(logs["loss"], (learner, step))
        return logs

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The loss on validation images whose codes are partly drawn anew, the same every time, and
        psnr (dB) of their own codes."""
        accelerator, most = self.accelerator, self.config.train.max_eval_images
        averages = Averages(accelerator, "redrawn_loss", "psnr")
        decoder = self.main.averaged
        for number, batch in shared_batches(self.validation, most, accelerator):
            seeds = [mixed_seed("redrawn", number, i) for i in range(len(batch.data))]
            found, count = self._loss(decoder, batch, seeds), len(batch.data)
            averages.add("redrawn_loss", found.loss * count, count)
            images = batch.images(accelerator.device)
            codes = self.tokenizer.encode(images)
            decoded = decoder(self.tokenizer.quantizer.lookup(codes)).float().clamp(-1, 1)
            averages.add("psnr", health.psnr(decoded, images), count)
        return averages.means()

    def pipeline(self, averaged: nn.Module | None = None) -> Pipeline:
        """The generator as it was, with the averaged decoder; no presets: they were found by the
        images of the other."""
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.decoder.load_state_dict((averaged or self.main.averaged).state_dict())
        whole = self.frozen
        return Pipeline(
            whole.model,
            tokenizer,
            whole.class_names,
            sampler=whole.sampler,
            guidance=whole.guidance,
            run=whole.run,
            data=whole.data,
        )

    def preview(self) -> Image.Image:
        """Samples of the first classes."""
        return first_classes(self.pipeline())

    @property
    def exported(self) -> Path:
        """The folder of the pipeline."""
        return Path(self.config.run) / "pipeline"

    def exporting(self) -> Callable[[], object]:
        """What writes the generator, and its tokenizer with the averaged decoder."""
        return partial(self.pipeline(frozen(self.main.averaged)).save_pretrained, self.exported)
