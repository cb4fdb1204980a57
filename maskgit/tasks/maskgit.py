"""MaskGITTask: cached codes and labels -> a generator. No encoder runs here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from maskgit.codes import CodeDataset, check_tokenizer
from maskgit.config import MaskGITConfig, to_dict
from maskgit.data import Batch, batches, in_order, spread
from maskgit.masking import stratified_times
from maskgit.pipeline import Pipeline, class_grid
from maskgit.randomness import generator
from maskgit.tasks.learner import Learner
from maskgit.transformer import Transformer
from maskgit.wrapper import NonAutoregressiveWrapper
from vqgan.tokenizer import Tokenizer
from vqgan.weights import weights_of

BITS_IMAGES = 2000
"""Validation images, about, that bits per code is estimated on while training; `maskgit evaluate` takes all."""


def code_datasets(folder: str, tokenizer: Path, seed: int) -> tuple[CodeDataset, CodeDataset]:
    """(training, validation) grids of a code cache; ValueError if another tokenizer than this file made it."""
    train = CodeDataset(folder, "train", seed=seed, augment=True)
    check_tokenizer(folder, train.manifest, tokenizer)
    return train, CodeDataset(folder, "validation")


class MaskGITTask:
    """Trains maskgit.Transformer through NonAutoregressiveWrapper, with a critic beside it if the config has one."""

    unit = "cells"

    def __init__(self, config: MaskGITConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        tokenizer_path = weights_of(config.tokenizer, "tokenizer")
        self.dataset, self.validation = code_datasets(config.codes, tokenizer_path, config.seed)
        self.num_units = self.dataset.grid[0] * self.dataset.grid[1]
        self.made_from = f"tokenizer {self.dataset.manifest['tokenizer_sha256']}"
        self.tokenizer = Tokenizer.load(tokenizer_path).to(accelerator.device)
        self.class_names = tuple(self.dataset.manifest["class_names"])
        shape: dict[str, Any] = {
            "codebook_size": self.tokenizer.codebook_size,
            "grid": self.dataset.grid,
            "num_classes": len(self.class_names),
            "codes_per_cell": self.tokenizer.codes_per_cell,
            "code_levels": self.tokenizer.code_levels,
        }
        if config.critic and config.critic.positions != config.model.positions:
            raise ValueError(f"the model has {config.model.positions} positions: set critic.positions to the same")
        transformer = Transformer(**shape, **config.model.model_dump())
        critic = Transformer(**shape, **config.critic.model_dump(), num_outputs=1) if config.critic else None
        wrapper = NonAutoregressiveWrapper(
            transformer, mask_id=transformer.mask_id, token_critic=critic, **config.loss.model_dump()
        )
        self.main = Learner(wrapper, accelerator, config.train)
        self.learners: dict[str, Learner[Any]] = {"maskgit": self.main}
        self.pipeline()  # refuses a sampler that this model cannot be sampled with

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step. Progress t is spread over the whole batch of all processes, and the loss is averaged over it."""
        learner, seed, device = self.main, self.config.seed, self.accelerator.device
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        all_t = stratified_times(self.config.train.batch_size, generator(seed, step)).to(device)
        total = learner.module.weight_of(all_t, self.num_units)
        sums = {"loss": torch.zeros((), device=device)}
        for number, (batch, t) in enumerate(zip(parts, all_t[rank::world].chunk(len(parts)), strict=True)):
            with learner.together(number == len(parts) - 1):
                losses = learner.ddp(
                    batch.data.to(device),
                    labels=batch.labels.to(device),
                    t=t,
                    normalizer=total / world,  # DDP averages over processes what should be summed
                    num_parts=len(parts),
                    generator=generator(seed, step, rank, number, device=device),
                )
                self.accelerator.backward(losses.loss)
            logs = losses._asdict() if learner.module.has_critic else {"loss": losses.loss}
            for key, value in logs.items():
                sums[key] = sums.get(key, 0.0) + value.detach()
        if not torch.isfinite(sums["loss"]):
            raise FloatingPointError(f"the loss is {sums['loss'].item()}")
        return {**sums, "gradient_norm": learner.step(step)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The generator's loss on the validation split, nats a hidden cell, bits per code of a part of it, and the
        critic's loss.

        The same cells are hidden every time.
        """
        device, rank, world = self.accelerator.device, self.accelerator.process_index, self.accelerator.num_processes
        sums = torch.zeros(5, dtype=torch.float64, device=device)
        indices = spread(len(self.validation), self.config.train.max_eval_images)
        order = in_order(indices, 100, rank=rank, world=world)
        for number, batch in enumerate(batches(self.validation, order)):
            codes, labels = batch.data.to(device), batch.labels.to(device)
            draws = generator(0, number * world + rank, device=device)
            with self.accelerator.autocast():
                losses = self.main.averaged(codes, labels=labels, generator=draws)
                few = number * world * len(codes) < BITS_IMAGES
                bits = self.main.averaged.bits(codes, labels=labels, generator=draws) if few else codes.new_zeros(0)
            judged = 0.0 if losses.critic_loss is None else losses.critic_loss * len(codes)
            found = (losses.generator_loss * len(codes), len(codes), bits.sum(), len(bits), judged)
            sums += torch.stack([torch.as_tensor(value, device=device).double() for value in found])
        sums = self.accelerator.reduce(sums)
        values = {"validation_loss": (sums[0] / sums[1]).item(), "bits_per_code": (sums[2] / sums[3]).item()}
        return values | ({"critic_loss": (sums[4] / sums[1]).item()} if self.main.averaged.has_critic else {})

    def pipeline(self) -> Pipeline:
        """The averaged generator with its tokenizer."""
        return Pipeline(
            self.main.averaged,
            self.tokenizer,
            self.class_names,
            sampler=self.config.sampler,
            guidance=self.config.guidance.model_dump(),
            run=to_dict(self.config),
            data={"source": self.dataset.manifest["source"], **self.dataset.manifest["transform"]},
        )

    def preview(self, num_rows: int = 10, num_columns: int = 6) -> Image.Image:
        """Samples of the first classes, one row a class, always of the same seeds."""
        return class_grid(self.pipeline(), range(min(num_rows, len(self.class_names))), num_columns)

    @property
    def exported(self) -> Path:
        """The folder of the pipeline."""
        return Path(self.config.run) / "pipeline"

    def export(self) -> None:
        """Write the averaged generator with its tokenizer."""
        self.pipeline().save_pretrained(self.exported)
