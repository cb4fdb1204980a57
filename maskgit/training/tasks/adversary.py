"""Adversary: the discriminator of a tokenizer's training, and what it asks of the tokenizer.

A step is the same step in one process and in several, whole and in accumulated parts: the adaptive
weight is that of the whole batch, and an image is augmented by draws of its own place in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from maskgit.config.sections import AdversarialConfig, TokenizerConfig
from maskgit.machine import upload
from maskgit.randomness import generator
from maskgit.training.learner import Learner
from vqgan.augmentation import NUM_DRAWS, augment
from vqgan.discriminator import DISCRIMINATORS, Judge
from vqgan.losses import ADVERSARIAL, adaptive_weight
from vqgan.registry import build
from vqgan.weights import within_memory


@torch.no_grad()
def _check_size(judge: Judge, channels: int, image_size: int) -> None:
    """ValueError if images are too small for a discriminator, now and not when it joins."""
    try:
        judge.net(torch.zeros(1, channels, image_size, image_size))
    except RuntimeError as error:
        raise ValueError(
            f"images of {image_size} pixels are too small for this discriminator: "
            "take fewer num_layers "
            f"(loss.adversarial.discriminator={{name: patchgan, num_layers: 1}})"
        ) from error


class Adversary:
    """A Judge with its optimiser."""

    def __init__(
        self,
        options: AdversarialConfig,
        config: TokenizerConfig,
        accelerator: Accelerator,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.options, self.accelerator = options, accelerator
        self.seed, self.batch_size = config.seed, config.train.batch_size
        shape = (options.discriminator, "discriminator", config.data.channels)
        judge = Judge(
            within_memory(lambda: build(DISCRIMINATORS, *shape), "loss.adversarial.discriminator")
        )
        judge.to(memory_format=memory_format)  # as its images come
        _check_size(judge, config.data.channels, config.data.image_size)
        if options.start_step >= config.train.steps and accelerator.is_main_process:
            print(
                "warning: the discriminator never joins: "
                f"loss.adversarial.start_step is {options.start_step}, "
                f"train.steps is {config.train.steps}",
                file=sys.stderr,
            )
        left = max(1, config.train.steps - options.start_step)
        train = config.train.model_copy(update={"steps": left})  # its rate runs on its own clock
        self.learner = Learner(
            judge, accelerator, train, learning_rate=options.learning_rate, averaged=False
        )
        self.losses = ADVERSARIAL[options.loss]

    def joins(self, step: int) -> bool:
        """Whether it takes part in this step."""
        return step >= self.options.start_step

    def shown(self, images: Tensor, step: int, number: int, side: int) -> Tensor:
        """What the discriminator sees of part `number`: augmented, if the config says so.

        side: which of its calls.
        """
        if not self.options.augment:
            return images
        own = generator("adversary's augmentation", self.seed, step, side)
        draws = torch.rand(self.batch_size, NUM_DRAWS, generator=own)
        mine = draws[self.accelerator.process_index :: self.accelerator.num_processes]
        part = mine[number * len(images) : (number + 1) * len(images)]
        return augment(images, upload(part, images.device).to(images))

    def loss(self, images: Tensor, step: int, number: int) -> Tensor:
        """The adversarial loss, unweighted; the discriminator is frozen, its turn is later."""
        judge = self.learner.module.requires_grad_(False)
        with self.accelerator.autocast():
            logits = judge.net(self.shown(images, step, number, 0))
        found = self.losses.generator(logits.float())
        judge.requires_grad_(True)
        return found

    def weight(
        self, step: int, losses: Iterable[tuple[Tensor, Tensor]], last_weight: Tensor
    ) -> Tensor:
        """What the adversarial loss counts.

        losses: (reconstruction, adversarial) of each part of the step.
        """
        options = self.options
        share = (
            min(1.0, (step - options.start_step + 1) / options.warmup_steps)
            if options.warmup_steps
            else 1.0
        )
        weight = torch.full((), options.weight * share, device=last_weight.device)
        return (
            weight * adaptive_weight(losses, last_weight, self._mean)
            if options.adaptive
            else weight
        )

    def _mean(self, value: Tensor) -> Tensor:
        """Over all processes."""
        found: Tensor = self.accelerator.reduce(value, "mean")
        return found

    def backward(self, step: int, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """The gradient of one step on (real, reconstructed) parts; of the penalty, too, every
        r1_every steps."""
        options, learner = self.options, self.learner
        judge, zero = learner.module, torch.zeros((), device=self.accelerator.device)
        is_penalised = options.r1 > 0 and step % options.r1_every == 0
        logs = {"discriminator_loss": zero, "real_logits": zero, "fake_logits": zero}
        for number, (real, fake) in enumerate(pairs):
            with learner.together(number == len(pairs) - 1):
                real = real.detach().requires_grad_(is_penalised)  # as it is, not as it is shown
                shown = [
                    self.shown(side, step, number, k)
                    for k, side in enumerate((real, fake), start=1)
                ]
                judged = learner.ddp(*shown, raw=real if is_penalised else None)
                loss = self.losses.discriminator(judged.real, judged.fake)
                found = (loss.detach(), judged.real.detach().mean(), judged.fake.detach().mean())
                logs = {
                    key: logs[key] + part / len(pairs)
                    for key, part in zip(logs, found, strict=True)
                }
                penalty = 0.5 * options.r1 * options.r1_every * judged.gradient_penalty
                loss = loss + penalty + options.lecam * judge.lecam(judged)
                self.accelerator.backward(loss / len(pairs))
        return logs

    def remember(self, logs: Mapping[str, Tensor]) -> None:
        """Move LeCam's averages, after a step that was made."""
        self.learner.module.remember(
            self._mean(logs["real_logits"]),
            self._mean(logs["fake_logits"]),
            self.learner.finite,
        )
