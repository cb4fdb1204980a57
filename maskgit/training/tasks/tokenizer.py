"""TokenizerTask: images -> a tokenizer, with pixel, perceptual and adversarial losses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from maskgit.config.loading import to_dict
from maskgit.config.sections import TokenizerConfig
from maskgit.data.datasets import Batch, image_datasets
from maskgit.data.fingerprint import data_hash
from maskgit.data.order import spread
from maskgit.pictures import image_grid
from maskgit.training.averages import Averages, shared_batches
from maskgit.training.learner import Learner, finish
from maskgit.training.resume import take_weights
from maskgit.training.tasks.adversary import Adversary
from maskgit.training.tasks.reconstruction import Comparison
from maskgit.training.writing import frozen
from vqgan import health
from vqgan.tokenizer import Tokenizer
from vqgan.weights import weights_of, within_memory


class TokenizerTask:
    """Trains vqgan.Tokenizer."""

    unit, num_units, made_from = "images", 1, ""
    class_names: Sequence[str] = ()

    def __init__(self, config: TokenizerConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.dataset, self.validation = image_datasets(config.data, Path(config.run), config.seed)
        self.data_hash = data_hash(self.dataset, self.validation)
        shape: dict[str, Any] = {
            "image_size": config.data.image_size,
            "channels": config.data.channels,
        }
        tokenizer = within_memory(lambda: Tokenizer(**shape, **config.model.model_dump()), "model")
        self.main = Learner(tokenizer, accelerator, config.train)
        self.learners: dict[str, Learner[Any]] = {"tokenizer": self.main}
        self.compare = Comparison(
            config.loss, config.data.background, accelerator, tokenizer.memory_format
        )
        self.adversary = None
        if config.loss.adversarial is not None:
            self.adversary = Adversary(
                config.loss.adversarial, config, accelerator, tokenizer.memory_format
            )
            self.learners["discriminator"] = self.adversary.learner

    def take_weights(self, path: Path) -> None:
        """Start from another tokenizer's weights."""
        take_weights(self.main.module, weights_of(path, "tokenizer"), "tokenizer")

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step of the tokenizer, then (once it has joined) one of the discriminator."""
        learner = self.main
        judged = self.adversary
        judged = judged if judged is not None and judged.joins(step) else None
        weight = None
        if judged is not None and len(parts) > 1:
            weight = self.weight_of_step(judged, step, parts)
        if len(parts) > 1:
            with self.accelerator.autocast():
                learner.module.expect(self._images(batch) for batch in parts)
        logs: dict[str, Tensor] = {}
        pairs = []
        for number, batch in enumerate(parts):
            images = self._images(batch)
            last = number == len(parts) - 1
            with learner.together(last):
                out = learner.ddp(images, accumulate=not last)
                loss, part_logs = self.compare(out.images, images)
                part_logs["quantizer_loss"] = out.loss.detach()
                total = loss + out.loss
                if judged is not None:
                    adversarial = judged.loss(out.images, step, number)
                    if weight is None:
                        weight = judged.weight(step, [(loss, adversarial)], self._last_weight)
                    part_logs |= {
                        "adversarial_loss": adversarial.detach(),
                        "adversarial_weight": weight,
                    }
                    total = total + weight * adversarial
                    pairs.append((images, out.images.detach()))
                self.accelerator.backward(total / len(parts))
            part_logs["loss"] = total.detach()
            for key, value in part_logs.items():
                logs[key] = logs.get(key, torch.zeros_like(value)) + value / len(parts)
        turns: list[tuple[Learner[Any], int]] = [(learner, step)]
        if judged is not None:
            logs |= judged.backward(step, pairs)
            turns.append((judged.learner, step - judged.options.start_step))
        logs["gradient_norm"] = finish(logs["loss"], *turns)[0]
        if judged is not None:
            judged.remember(logs)
        return logs

    def _images(self, batch: Batch) -> Tensor:
        return batch.images(self.accelerator.device)

    @property
    def _last_weight(self) -> Tensor:
        """Of the decoder's last convolution."""
        return self.main.module.decoder.to_pixels.weight

    def weight_of_step(self, adversary: Adversary, step: int, parts: Sequence[Batch]) -> Tensor:
        """The adversarial weight of a step in parts, of all together: they run up to it first."""

        def losses() -> Iterator[tuple[Tensor, Tensor]]:
            for number, batch in enumerate(parts):
                images = self._images(batch)
                with self.accelerator.autocast():
                    found = self.main.module.last_layer(images)
                yield (
                    self.compare(found.float(), images)[0],
                    adversary.loss(found.float(), step, number),
                )

        return adversary.weight(step, losses(), self._last_weight)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """psnr (dB, mean over images) and the health of the codebook on the validation split."""
        tokenizer, accelerator = self.main.averaged, self.accelerator
        most, workers = self.config.train.max_eval_images, self.config.data.workers
        sizes = (tokenizer.codebook_size, tokenizer.codes_per_cell)
        counts = torch.zeros(sizes[::-1], dtype=torch.int64, device=accelerator.device)
        averages = Averages(accelerator, "psnr")
        for _, batch in shared_batches(self.validation, most, accelerator, workers=workers):
            images = self._images(batch)
            with accelerator.autocast():
                codes = tokenizer.encode(images)
                decoded = tokenizer.decode(codes).float()
            counts += health.code_counts(codes, *sizes)
            averages.add("psnr", health.psnr(decoded, images), len(images))
        counts = accelerator.reduce(counts)
        warning = health.unused_codes(counts, tokenizer.remedy)
        if warning and accelerator.is_main_process:
            print(warning, file=sys.stderr, flush=True)
        return {**averages.means(), **health.code_health(counts)}

    @torch.no_grad()
    def preview(self, num_images: int = 16) -> Image.Image:
        """Validation images in one row, what the tokenizer makes of them in the next."""
        keys = [(i, 0) for i in spread(len(self.validation), num_images)]
        images = self._images(self.validation.__getitems__(keys))
        decoded = self.main.averaged.decode(self.main.averaged.encode(images))
        return image_grid(torch.cat((images, decoded)), num_columns=len(images))

    @property
    def exported(self) -> Path:
        """The weights file."""
        return Path(self.config.run) / "tokenizer.safetensors"

    def exporting(self) -> Callable[[], object]:
        """What writes the averaged tokenizer."""
        tokenizer = frozen(self.main.averaged)
        return partial(tokenizer.save, self.exported, {"run": to_dict(self.config)})
