"""CriticTask: a trained generator, frozen, and cached codes -> a token critic (Token-Critic,
arXiv:2209.04439)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from maskgit.config.loading import to_dict
from maskgit.config.sections import CriticConfig
from maskgit.data.codes import code_datasets
from maskgit.data.datasets import Batch
from maskgit.data.manifest import content_of
from maskgit.data.resident import on_device
from maskgit.model.backbones import SHAPE, make_critic
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import class_names_of, pipeline_folder, read_hashed
from maskgit.randomness import generator
from maskgit.training.averages import Averages, shared_batches
from maskgit.training.learner import Learner, finish
from maskgit.training.resume import OF_CLASSES, Classes, take_weights
from maskgit.training.sharding import make_learner
from maskgit.training.tasks.preview import first_classes
from maskgit.training.writing import frozen
from vqgan.weights import within_memory


class CriticTask:
    """Trains a backbone with one logit a cell on grids that the frozen generator has completed."""

    unit = "cells"

    def __init__(self, config: CriticConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        folder = pipeline_folder(Path(config.generator))
        parts, hashes = read_hashed(folder)
        self.frozen = Pipeline(**parts._asdict()).to(accelerator.device)
        codes, self.validation = code_datasets(
            config.codes, folder / "tokenizer.safetensors", hashes["tokenizer"], config.seed
        )
        self.dataset = on_device(codes, accelerator.device)
        self.num_units = self.dataset.grid[0] * self.dataset.grid[1]
        self.data_hash = content_of(self.dataset.manifest)
        self.class_names = self.frozen.class_names
        self.made_from = f"generator {hashes['model']}"
        net = self.frozen.net
        shape = {
            key: net.config[key] for key in SHAPE if key in net.config and key != "num_outputs"
        }
        critic = within_memory(
            lambda: make_critic(config.model.model_dump(), net, "model", **shape), "model"
        )
        self.main = make_learner(critic, accelerator, config.train)
        self.learners: dict[str, Learner[Any]] = {"critic": self.main}
        self.training = self._wrapped(self.main.ddp)
        self.pipeline()  # refuses a sampler that this model cannot be sampled with

    def _wrapped(self, critic: torch.nn.Module) -> NonAutoregressiveWrapper:
        """The frozen generator, self-conditioned as it was trained, with this critic."""
        model, loss = self.frozen.model, self.config.loss
        wrapper = NonAutoregressiveWrapper(
            model.net,
            mask_id=model.mask_id,
            self_cond=model.self_cond,
            schedule=loss.schedule,
            critic_target=loss.target,
            condition_dropout=loss.condition_dropout,
            token_critic=critic,
        )
        if model.self_cond:
            wrapper.null_embed, wrapper.to_self_cond = model.null_embed, model.to_self_cond
        return wrapper

    def _losses(self, wrapper: NonAutoregressiveWrapper, batch: Batch, **keywords: Any) -> Tensor:
        """The critic's loss on a batch."""
        codes, condition = batch.grids(self.accelerator.device)
        temperature = self.config.loss.temperature
        return cast(
            Tensor,
            wrapper(
                codes,
                only_train_critic=True,
                generator_sample_temperature=temperature,
                condition=condition,
                **keywords,
            ).loss,
        )

    def take_weights(self, path: Path) -> None:
        """Start from another critic's weights; its classes keep their rows."""
        folder = pipeline_folder(path)
        classes = Classes(class_names_of(folder), self.class_names, OF_CLASSES)
        with self.main.opened() as module:
            take_weights(module, folder / "critic.safetensors", "critic", classes)

    def update(self, step: int, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """One step; what chance decides is drawn for the batch of all processes, which share it."""
        learner, seed, device = self.main, self.config.seed, self.accelerator.device
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.training.train().net.eval()
        size, grid = self.config.train.batch_size, self.dataset.grid
        whole = self.training.draw(size, grid, generator("step", seed, step))
        mine = whole.of(slice(rank, None, world)).split(len(parts))
        loss = torch.zeros((), device=device)
        for number, (batch, given) in enumerate(zip(parts, mine, strict=True)):
            draws = generator("critic codes", seed, step, rank, number, device=device)
            with learner.together(number == len(parts) - 1), self.accelerator.autocast():
                found = self._losses(
                    self.training, batch, draws=given, num_parts=len(parts), generator=draws
                )
                self.accelerator.backward(found)
            loss += found.detach()
        [norm] = finish(loss, (learner, step))
        return {"loss": loss, "gradient_norm": norm}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The critic's loss on completed validation grids, nats a cell: ln 2 is a coin's.

        The same draws every time.
        """
        accelerator, most = self.accelerator, self.config.train.max_eval_images
        averages = Averages(accelerator, "critic_loss")
        wrapper = self._wrapped(self.main.averaged).eval()
        for number, batch in shared_batches(self.validation, most, accelerator):
            given = wrapper.draw(
                len(batch.data), self.dataset.grid, generator("validation", number)
            )
            draws = generator("critic codes", number, device=accelerator.device)
            with accelerator.autocast():
                loss = self._losses(wrapper, batch, draws=given, generator=draws)
            averages.add("critic_loss", loss * len(batch.data), len(batch.data))
        return averages.means()

    def pipeline(self, averaged: torch.nn.Module | None = None) -> Pipeline:
        """The generator as it was, a critic of its own included, with the averaged critic."""
        wrapper = self._wrapped(averaged or self.main.averaged)
        wrapper.self_critic = self.frozen.model.self_critic
        frozen = self.frozen
        return Pipeline(
            wrapper,
            frozen.tokenizer,
            frozen.class_names,
            sampler=self.config.sampler,
            guidance=self.config.guidance.model_dump(),
            run=to_dict(self.config),
            data=frozen.data,
        )

    def preview(self) -> Image.Image:
        """Samples of the first classes."""
        return first_classes(self.pipeline())

    @property
    def exported(self) -> Path:
        """The folder of the pipeline."""
        return Path(self.config.run) / "pipeline"

    def exporting(self) -> Callable[[], object]:
        """What writes the generator, its tokenizer and the averaged critic."""
        return partial(self.pipeline(frozen(self.main.averaged)).save_pretrained, self.exported)
