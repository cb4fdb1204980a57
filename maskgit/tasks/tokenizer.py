"""TokenizerTask: images -> a tokenizer, with pixel, perceptual and adversarial losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from maskgit import metrics
from maskgit.config import TokenizerConfig, to_dict
from maskgit.data import Batch, ImageDataset, Quarantine, batches, in_order, spread
from maskgit.images import Transform, to_float
from maskgit.perceptual import PERCEPTUAL
from maskgit.plots import image_grid
from maskgit.randomness import generator
from maskgit.sources import load_source
from maskgit.tasks.learner import Learner
from vqgan.augmentation import augment
from vqgan.discriminator import DISCRIMINATORS, Judge
from vqgan.losses import ADVERSARIAL, PIXEL_LOSSES, adaptive_weight
from vqgan.registry import build
from vqgan.tokenizer import Tokenizer


def image_datasets(config: Any, run: Path) -> tuple[ImageDataset, ImageDataset]:
    """(training, validation) images of a config with a `data` section; validation images are never augmented."""
    data = config.data
    transform = Transform(data.image_size, data.channels, data.crop, data.max_scale, data.flip)
    quarantine = Quarantine(run / "quarantine.jsonl")
    train, validation = (load_source(data.source, split) for split in ("train", "validation"))
    return (
        ImageDataset(train, transform, seed=config.seed, augment=True, quarantine=quarantine),
        ImageDataset(validation, transform, quarantine=quarantine),
    )


class TokenizerTask:
    """Trains vqgan.Tokenizer."""

    unit, num_units, made_from = "images", 1, ""

    def __init__(self, config: TokenizerConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.dataset, self.validation = image_datasets(config, Path(config.run))
        tokenizer = Tokenizer(
            image_size=config.data.image_size, channels=config.data.channels, **config.model.model_dump()
        )
        self.main = Learner(tokenizer, accelerator, config.train)
        self.learners: dict[str, Learner[Any]] = {"tokenizer": self.main}
        self.pixel = PIXEL_LOSSES[config.loss.pixel]
        self.perceptual = None
        if config.loss.perceptual is not None:
            self.perceptual = build(PERCEPTUAL, config.loss.perceptual, "perceptual loss").to(accelerator.device)
        gan = config.loss.adversarial
        if gan is not None:
            judge = Judge(build(DISCRIMINATORS, gan.discriminator, "discriminator", config.data.channels))
            rate = gan.learning_rate
            self.learners["discriminator"] = Learner(
                judge, accelerator, config.train, learning_rate=rate, averaged=False
            )

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step of the tokenizer, then (once it has joined) one of the discriminator."""
        learner = self.main
        gan = self.config.loss.adversarial
        is_judged = gan is not None and step >= gan.start_step
        logs: dict[str, Tensor] = {}
        pairs = []
        for number, batch in enumerate(parts):
            images = to_float(batch.data.to(self.accelerator.device))
            last = number == len(parts) - 1
            with learner.together(last):
                out = learner.ddp(images, accumulate=not last)
                loss, part_logs = self._reconstruction_loss(out.images, images)
                part_logs["quantizer_loss"] = out.loss.detach()
                total = loss + out.loss
                if is_judged:
                    adversarial = self._generator_loss(step, number, out.images, loss, part_logs)
                    total = total + adversarial
                    pairs.append((images, out.images.detach()))
                self.accelerator.backward(total / len(parts))
            part_logs["loss"] = total.detach()
            for key, value in part_logs.items():
                logs[key] = logs.get(key, torch.zeros_like(value)) + value / len(parts)
        _check_finite(logs["loss"])
        logs["gradient_norm"] = learner.step(step)
        if is_judged:
            logs |= self._update_discriminator(step, pairs)
        return logs

    def _reconstruction_loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        pixel = self.pixel(images, targets)
        logs = {"pixel_loss": pixel.detach()}
        if self.perceptual is None:
            return pixel, logs
        perceptual = self.perceptual(images, targets)
        logs["perceptual_loss"] = perceptual.detach()
        return pixel + self.config.loss.perceptual_weight * perceptual, logs

    def _shown(self, images: Tensor, *place: int) -> Tensor:
        """What the discriminator sees: augmented, if the config says so, by draws of the step, process and part."""
        gan = self.config.loss.adversarial
        assert gan is not None
        draws = (self.config.seed, self.accelerator.process_index, *place)
        return augment(images, generator(*draws, device=images.device)) if gan.augment else images

    def _generator_loss(
        self, step: int, number: int, images: Tensor, reconstruction_loss: Tensor, logs: dict[str, Tensor]
    ) -> Tensor:
        """The weighted adversarial loss. The discriminator is frozen here: its gradients are made in its own turn."""
        gan = self.config.loss.adversarial
        assert gan is not None
        judge = self.learners["discriminator"].module.requires_grad_(False)
        adversarial = ADVERSARIAL[gan.loss].generator(judge.net(self._shown(images, step, number, 0)))
        share = min(1.0, (step - gan.start_step + 1) / gan.warmup_steps) if gan.warmup_steps else 1.0
        weight = torch.tensor(gan.weight * share, device=images.device)
        if gan.adaptive:
            last = self.main.module.decoder.to_pixels.weight
            weight = weight * adaptive_weight(reconstruction_loss, adversarial, last, self._mean)
        judge.requires_grad_(True)
        logs |= {"adversarial_loss": adversarial.detach(), "adversarial_weight": weight.detach()}
        return weight * adversarial

    def _mean(self, value: Tensor) -> Tensor:
        """Over all processes."""
        found: Tensor = self.accelerator.reduce(value, "mean")
        return found

    def _update_discriminator(self, step: int, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """One step; the gradient penalty every r1_every steps, LeCam's averages moved after it."""
        gan = self.config.loss.adversarial
        assert gan is not None
        learner = self.learners["discriminator"]
        judge, zero = learner.module, torch.zeros((), device=self.accelerator.device)
        is_penalised = gan.r1 > 0 and step % gan.r1_every == 0
        logs = {"discriminator_loss": zero, "real_logits": zero, "fake_logits": zero}
        for number, (real, fake) in enumerate(pairs):
            with learner.together(number == len(pairs) - 1):
                shown = [self._shown(side, step, number, k) for k, side in enumerate((real, fake), start=1)]
                judged = learner.ddp(*shown, penalty=is_penalised)
                loss = ADVERSARIAL[gan.loss].discriminator(judged.real, judged.fake)
                found = (loss.detach(), judged.real.detach().mean(), judged.fake.detach().mean())
                logs = {key: logs[key] + part / len(pairs) for key, part in zip(logs, found, strict=True)}
                loss = loss + 0.5 * gan.r1 * gan.r1_every * judged.gradient_penalty + gan.lecam * judge.lecam(judged)
                self.accelerator.backward(loss / len(pairs))
        learner.step(step)
        judge.remember(self._mean(logs["real_logits"]), self._mean(logs["fake_logits"]))
        return logs

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """psnr (dB, mean over images), codes_used (share) and perplexity on the validation split."""
        tokenizer, device = self.main.averaged, self.accelerator.device
        counts = torch.zeros(tokenizer.codebook_size, dtype=torch.int64, device=device)
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        indices = spread(len(self.validation), self.config.train.max_eval_images)
        order = in_order(indices, 100, rank=self.accelerator.process_index, world=self.accelerator.num_processes)
        for batch in batches(self.validation, order, workers=self.config.data.workers):
            images = to_float(batch.data.to(device))
            with self.accelerator.autocast():
                codes = tokenizer.encode(images)
                decoded = tokenizer.decode(codes).float()
            counts += metrics.code_counts(codes, tokenizer.codebook_size)
            sums += torch.stack(
                (metrics.psnr(decoded, images).double().sum(), torch.tensor(len(images), device=device))
            )
        counts, sums = self.accelerator.reduce(counts), self.accelerator.reduce(sums)
        psnr = (sums[0] / sums[1]).item()
        return {"psnr": psnr, "codes_used": metrics.code_share(counts), "perplexity": metrics.perplexity(counts)}

    @torch.no_grad()
    def preview(self, num_images: int = 16) -> Image.Image:
        """Validation images in one row, what the tokenizer makes of them in the next."""
        keys = [(i, 0) for i in spread(len(self.validation), num_images)]
        images = to_float(self.validation.__getitems__(keys).data.to(self.accelerator.device))
        decoded = self.main.averaged.decode(self.main.averaged.encode(images))
        return image_grid(torch.cat((images, decoded)), num_columns=len(images))

    @property
    def exported(self) -> Path:
        """The weights file."""
        return Path(self.config.run) / "tokenizer.safetensors"

    def export(self) -> None:
        """Write the averaged tokenizer."""
        self.main.averaged.save(self.exported, {"run": to_dict(self.config)})


def _check_finite(loss: Tensor) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()}")
