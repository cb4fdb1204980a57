"""MaskGITTask: cached codes and their conditions -> a generator. No encoder runs here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from maskgit.config.loading import to_dict
from maskgit.config.sections import MaskGITConfig
from maskgit.data.codes import code_datasets
from maskgit.data.datasets import Batch
from maskgit.data.manifest import content_of
from maskgit.data.resident import on_device
from maskgit.model.backbones import make_backbone, make_critic
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import class_names_of, pipeline_folder
from maskgit.randomness import generator
from maskgit.training.averages import Averages, shared_batches
from maskgit.training.compiling import compile_step, is_compiled
from maskgit.training.learner import Learner, finish
from maskgit.training.resume import OF_CLASSES, Classes, take_weights
from maskgit.training.sharding import make_learner
from maskgit.training.tasks.preview import first_classes
from maskgit.training.writing import frozen
from vqgan.tokenizers import load_hashed
from vqgan.weights import weights_of, within_memory

BITS_IMAGES = 2000
"""Validation images, about, that bits per code is of while training; `evaluate` takes all."""


class MaskGITTask:
    """Trains a backbone through NonAutoregressiveWrapper, with a critic if the config has one."""

    unit = "cells"

    def __init__(self, config: MaskGITConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        tokenizer_path = weights_of(config.tokenizer, "tokenizer")
        self.tokenizer, _, tokenizer_hash = load_hashed(tokenizer_path)
        self.tokenizer.to(accelerator.device)
        codes, self.validation = code_datasets(
            config.codes, tokenizer_path, tokenizer_hash, config.seed
        )
        self.dataset = on_device(codes, accelerator.device)
        self.num_units = self.dataset.grid[0] * self.dataset.grid[1]
        self.made_from = f"tokenizer {self.dataset.manifest['tokenizer_sha256']}"
        self.data_hash = content_of(self.dataset.manifest)
        self.class_names = tuple(self.dataset.manifest["class_names"])
        shape: dict[str, Any] = {
            "codebook_size": self.tokenizer.codebook_size,
            "grid": self.dataset.grid,
            "num_classes": len(self.class_names),
            "codes_per_cell": self.tokenizer.codes_per_cell,
            "code_levels": self.tokenizer.code_levels,
        }
        net = within_memory(lambda: make_backbone(config.model.model_dump(), **shape), "model")
        critic = (
            within_memory(
                lambda: make_critic(config.critic.model_dump(), net, "critic", **shape), "critic"
            )
            if config.critic
            else None
        )
        wrapper = NonAutoregressiveWrapper(
            net, mask_id=self.tokenizer.codebook_size, token_critic=critic, **dict(config.loss)
        )
        self.main = make_learner(wrapper, accelerator, config.train)
        if is_compiled(config.train, accelerator.device):
            compile_step(wrapper)
        self.learners: dict[str, Learner[Any]] = {"maskgit": self.main}
        self.pipeline()  # refuses a sampler that this model cannot be sampled with

    def take_weights(self, path: Path) -> None:
        """Start from another generator's weights, its classes' rows and its critic included."""
        folder = pipeline_folder(path)
        classes = Classes(class_names_of(folder), self.class_names, OF_CLASSES)
        critic = folder / "critic.safetensors"
        with self.main.opened() as module:
            take_weights(module, folder / "model.safetensors", "maskgit", classes)
            if self.config.critic is not None and critic.is_file():
                take_weights(module, critic, "critic", classes, prefix="token_critic.")

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step; what chance decides is drawn for the batch of all processes, which share it."""
        learner, seed, device = self.main, self.config.seed, self.accelerator.device
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        whole = learner.module.draw(
            self.config.train.batch_size, self.dataset.grid, generator("step", seed, step)
        )
        total = learner.module.objective.weight_of(whole.t, self.num_units)
        sums = {"loss": torch.zeros((), device=device)}
        mine = whole.of(slice(rank, None, world)).split(len(parts))
        torch.compiler.cudagraph_mark_step_begin()  # what an earlier step left may be overwritten
        for number, (batch, draws) in enumerate(zip(parts, mine, strict=True)):
            with learner.together(number == len(parts) - 1):
                codes, condition = batch.grids(device)
                losses = learner.ddp(
                    codes,
                    condition=condition,
                    draws=draws,
                    normalizer=total / world,  # DDP averages over processes what should be summed
                    num_parts=len(parts),
                    generator=generator("critic codes", seed, step, rank, number, device=device),
                )
                self.accelerator.backward(losses.loss)
            logs = losses._asdict() if learner.module.has_critic else {"loss": losses.loss}
            for key, value in logs.items():
                sums[key] = sums.get(key, 0.0) + value.detach()
        [norm] = finish(sums["loss"], (learner, step))
        return {**sums, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The generator's loss on the validation split, nats a hidden cell, bits per code of a part
        of it, and the critic's loss.

        The same cells are hidden every time.
        """
        model, most = self.main.averaged, self.config.train.max_eval_images
        accelerator = self.accelerator
        device, world = accelerator.device, accelerator.num_processes
        names = ["validation_loss", "bits_per_code", *(["critic_loss"] if model.has_critic else [])]
        averages = Averages(accelerator, *names)
        for number, batch in shared_batches(self.validation, most, accelerator):
            codes, condition = batch.grids(device)
            count = len(codes)
            draws = generator("validation", number)
            with accelerator.autocast():
                given = model.draw(count, codes.shape[1:], draws)
                on_device = generator("critic codes", number, device=device)
                losses = model(codes, condition=condition, draws=given, generator=on_device)
                averages.add("validation_loss", losses.generator_loss * count, count)
                if model.has_critic:
                    averages.add("critic_loss", losses.critic_loss * count, count)
                if number // world * world * count < BITS_IMAGES:  # all processes alike
                    bits = model.bits(codes, condition=condition, generator=draws)
                    averages.add("bits_per_code", bits.sum(), count)
        return averages.means()

    def pipeline(self, averaged: NonAutoregressiveWrapper | None = None) -> Pipeline:
        """The averaged generator with its tokenizer."""
        return Pipeline(
            averaged or self.main.averaged,
            self.tokenizer,
            self.class_names,
            sampler=self.config.sampler,
            guidance=self.config.guidance.model_dump(),
            run=to_dict(self.config),
            data={"source": self.dataset.manifest["source"], **self.dataset.manifest["transform"]},
        )

    def preview(self) -> Image.Image:
        """Samples of the first classes."""
        return first_classes(self.pipeline())

    @property
    def exported(self) -> Path:
        """The folder of the pipeline."""
        return Path(self.config.run) / "pipeline"

    def exporting(self) -> Callable[[], object]:
        """What writes the averaged generator with its tokenizer."""
        return partial(self.pipeline(frozen(self.main.averaged)).save_pretrained, self.exported)
