"""Pipeline: one line from a checkpoint to PIL images. The command line, the previews and the metrics all use it.

folder/config.json  class names, sampler settings, the run's config
folder/model.safetensors  folder/tokenizer.safetensors  folder/critic.safetensors, if it has a token critic
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from PIL import Image
from torch import Tensor

from maskgit.config import validated
from maskgit.editing import EDITS
from maskgit.guidance import Guided
from maskgit.images import to_float, to_mask, to_pil, to_pixels
from maskgit.plots import image_grid
from maskgit.precision import PRECISIONS, dtype_of
from maskgit.predictor import Conditioned, Filled, Watched
from maskgit.presets import Preset, choose_preset, load_presets, save_preset
from maskgit.processes import one_thread_each
from maskgit.samplers import SAMPLERS, critic_of, rounds_of
from maskgit.saved import pipeline_folder
from maskgit.transformer import Transformer
from maskgit.wrapper import NonAutoregressiveWrapper
from vqgan.files import replacing
from vqgan.registry import check, choose, split, suggest
from vqgan.tokenizer import Tokenizer
from vqgan.weights import load_weights, save_weights

FORMAT = "maskgit-pipeline-2"
ONE_THREAD = 64 * 64
"""Pixels up to which an image is decoded on one thread, others beside it: more do not make so few quicker."""


class Settings(NamedTuple):
    """What to draw with."""

    sampler: dict[str, Any]  # {name, steps, ...}
    guidance: dict[str, Any]  # {scale, schedule, interval}

    def check_negative(self) -> None:
        """ValueError if there is no guidance, by which a negative label works."""
        if self.guidance.get("scale", 1.0) == 1:
            raise ValueError("a negative label works through guidance, whose scale is 1 here: set another")


class Pipeline:
    """A generator with its tokenizer, its class names and its default sampler settings.

    model: a wrapper around a Transformer, with its critic if it has one. run: the config it was trained with.
    sampler: `{name: confidence, steps: 12, ...}`, an entry of SAMPLERS with options; guidance: `{scale, schedule}`.
    data: the images, as the data section of a config, so that it can be measured. presets: other settings, by name.
    """

    def __init__(
        self,
        model: NonAutoregressiveWrapper,
        tokenizer: Tokenizer,
        class_names: Sequence[str],
        *,
        sampler: str | Mapping[str, Any] = "confidence",
        guidance: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        presets: Mapping[str, Preset] | None = None,
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer.eval()
        self.class_names = tuple(class_names)
        self.sampler, self.guidance = sampler, dict(guidance or {})
        self.run, self.data = dict(run or {}), dict(data or {})
        self.presets = dict(presets or {})
        self.settings()  # refuses what could not be drawn with

    @property
    def transformer(self) -> Transformer:
        """The generator's net."""
        return cast(Transformer, self.model.net)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def precision(self) -> str:
        """That of the generator's weights, an entry of PRECISIONS."""
        dtype = next(self.model.parameters()).dtype
        return next(name for name, known in PRECISIONS.items() if known == dtype)

    def to(self, device: torch.device | str | None = None, *, precision: str | None = None) -> Pipeline:
        """Move the weights; precision: of the generator's: fp32, bf16, or auto.

        In bf16 a sample is no longer that of fp32, but still the same whatever the batch; all sampling arithmetic, and
        the tokenizer, stay in float32.
        """
        self.model.to(device=device, dtype=None if precision is None else dtype_of(precision))
        self.tokenizer.to(device)
        return self

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Pipeline:
        """Load what `save_pretrained` wrote, from that folder or from the training run it lies in."""
        folder = pipeline_folder(Path(folder))
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"no generator in {folder}: train one first (`maskgit train <config>`)")
        try:
            config = json.loads((folder / "config.json").read_text())
        except ValueError as error:
            raise ValueError(f"{folder / 'config.json'} is not JSON: {error}") from error
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise ValueError(
                f"{folder / 'config.json'} is not a {FORMAT}: it was written by another program or version"
            )
        weights, tensors = load_weights(folder / "model.safetensors", "maskgit")
        model = NonAutoregressiveWrapper(
            Transformer(**weights["model"]), mask_id=weights["model"]["codebook_size"], **weights["wrapper"]
        )
        model.load_state_dict(tensors)
        if (folder / "critic.safetensors").is_file():
            critic, tensors = load_weights(folder / "critic.safetensors", "critic")
            model.token_critic = Transformer(**critic["model"])
            model.token_critic.load_state_dict(tensors)
        tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
        rest = {key: config[key] for key in ("class_names", "sampler", "guidance", "run")}
        return cls(model, tokenizer, **rest, data=config.get("data"), presets=load_presets(folder))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write three files, or four, and one for each preset, each whole or not at all; others are left alone."""
        folder = Path(folder)
        self.tokenizer.save(folder / "tokenizer.safetensors")
        own = {"self_cond": self.model.self_cond, "self_token_critic": self.model.self_critic is not None}
        weights = {"model": self.transformer.config, "wrapper": own, "run": self.run}
        critic = self.model.token_critic
        state = {k: v for k, v in self.model.state_dict().items() if not k.startswith("token_critic.")}
        save_weights(folder / "model.safetensors", state, "maskgit", weights)
        if critic is None:
            (folder / "critic.safetensors").unlink(missing_ok=True)
        else:
            shape = {"model": cast(Transformer, critic).config, "run": self.run}
            save_weights(folder / "critic.safetensors", critic.state_dict(), "critic", shape)
        config = {
            "format": FORMAT,
            "class_names": self.class_names,
            "sampler": self.sampler,
            "guidance": self.guidance,
            "run": self.run,
            "data": self.data,
        }
        with replacing(folder / "config.json") as aside:
            aside.write_text(json.dumps(config, indent=1) + "\n")
        for name, preset in self.presets.items():
            save_preset(folder, name, preset)
        return folder

    def label(self, name: str) -> int:
        """The label of a class name, or of a number in text; ValueError names the nearest class."""
        if name in self.class_names:
            return self.class_names.index(name)
        if name.isdecimal() and int(name) < len(self.class_names):
            return int(name)
        raise ValueError(f"no class {name!r}{suggest(name, self.class_names[:50])}")

    def parse_labels(self, text: str) -> list[int]:
        """`0-9`, `3,3,7`, `bag,ankle boot` or a mixture -> labels."""
        labels: list[int] = []
        for part in filter(None, (p.strip() for p in text.split(","))):
            first, dash, last = part.partition("-")
            if dash and first.isdecimal() and last.isdecimal() and part not in self.class_names:
                labels += range(self.label(first), self.label(last) + 1)
            else:
                labels.append(self.label(part))
        if not labels:
            raise ValueError("no labels given: write e.g. 0-9, or 3,7, or class names")
        return labels

    @torch.no_grad()
    def rounds(self, labels: Sequence[int], seeds: Sequence[int] | None = None, **options: Any) -> Iterator[Tensor]:
        """The grids (batch, h, w) after each round, hidden cells equal to `model.mask_id`; one batch.

        options: as in `settings`, and those of `_prepare`: codes, height, width, negative.
        """
        predictor, fill = self._prepare(labels, seeds, **options)
        yield from fill(predictor)

    @torch.no_grad()
    def watch(self, labels: Sequence[int], seeds: Sequence[int] | None = None, **options: Any) -> Iterator[Filled]:
        """As `rounds`, with the model's probability of every code when it was drawn."""
        predictor, fill = self._prepare(labels, seeds, **options)
        watched = Watched(predictor)
        for codes in fill(watched):
            yield Filled(codes, watched.confidence(codes))

    def _prepare(
        self,
        labels: Sequence[int],
        seeds: Sequence[int] | None = None,
        *,
        codes: Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        negative: int | None = None,
        mixed_with: Sequence[tuple[int, float]] | None = None,
        **options: Any,
    ) -> tuple[Any, Callable[[Any], Iterator[Tensor]]]:
        """A predictor for these labels, and the sampler that takes it.

        codes: grids (batch, h, w) to fill, all hidden by default; cells known in them stay. height, width: of the
        images in pixels, those of the training by default. negative: a label to lead away from, instead of no label.
        mixed_with: for each image another label and its share in [0, 1].
        """
        others = [label for label, _ in mixed_with or ()] + ([] if negative is None else [negative])
        if any(not 0 <= label <= len(self.class_names) for label in (*labels, *others)):
            raise ValueError(f"labels lie in 0 .. {len(self.class_names) - 1}, or {len(self.class_names)} for no label")
        seeds = list(range(len(labels))) if seeds is None else list(seeds)
        if len(seeds) != len(labels):
            raise ValueError(f"{len(labels)} labels need as many seeds, not {len(seeds)}")
        found = self.settings(**options)
        name, keywords = split(found.sampler, "sampler")
        if codes is None:
            codes = torch.full((len(labels), *self.grid_of(height, width)), self.model.mask_id)
        elif len(codes) != len(labels):
            raise ValueError(f"{len(labels)} labels need as many grids of codes, not {len(codes)}")
        elif height is not None or width is not None:
            raise ValueError("give the grids of codes, or a height and width, not both")
        keywords["steps"] = rounds_of(found.sampler, codes[0].numel())
        self.transformer.check_grid(*codes.shape[1:])
        if negative is not None:
            found.check_negative()
        there = torch.tensor(labels, device=self.device)
        mixed = None
        if mixed_with is not None:
            other, share = zip(*mixed_with, strict=True)
            mixed = torch.tensor(other, device=self.device), torch.tensor(share, device=self.device)
        predictor = Guided(
            Conditioned(self.model, len(labels), {}),
            there,
            negative=None if negative is None else torch.full_like(there, negative),
            mixed_with=mixed,
            **found.guidance,
        )
        return predictor, partial(SAMPLERS[name], codes=codes.to(self.device), seeds=seeds, **keywords)

    def grid_of(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """The cells (h, w) of images of a size in pixels, by default the training's; ValueError if none fit."""
        own = self.tokenizer.size_of(self.transformer.grid)
        height, width = own[0] if height is None else height, own[1] if width is None else width
        if self.transformer.positions == "learned" and (height, width) != own:
            raise ValueError(f"this model draws {own[0]}x{own[1]} pixels only; model.positions=rotary draws any size")
        return self.tokenizer.grid_of(height, width)

    def settings(
        self,
        *,
        preset: str | None = None,
        sampler: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        guidance: float | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Settings:
        """What to draw with: the pipeline's own settings, or a preset's, with what a call gives instead.

        sampler: an entry of SAMPLERS; of another one than the pipeline's own, only the steps are kept. guidance: its
        scale, 1 for none, or `{scale, schedule, interval}`. options: the sampler's. ValueError if there is no such
        sampler or option, or if it needs a critic that is not there.
        """
        chosen = None if preset is None else choose_preset(self.presets, preset)
        name, keywords = split(self.sampler if chosen is None else chosen.sampler, "sampler")
        if sampler is not None:
            other, given = split(sampler, "sampler")
            kept = keywords if other == name else {k: v for k, v in keywords.items() if k == "steps"}
            name, keywords = other, kept | given
        found = {"name": name} | keywords | options | ({} if steps is None else {"steps": steps})
        check(SAMPLERS, found, "sampler", ["predictor", "codes", "seeds"])
        base = self.guidance if chosen is None or chosen.guidance is None else chosen.guidance.model_dump()
        changed = {} if guidance is None else guidance if isinstance(guidance, Mapping) else {"scale": guidance}
        guided = {**base, **changed}
        if not any(map(callable, found.values())):  # a schedule of the caller's own is not a config's
            valid = validated(Preset, {"sampler": found, "guidance": guided}, "settings")
            found = {"name": name, **split(valid.sampler, "sampler")[1]}
        critic = critic_of(SAMPLERS[name])
        if critic is not None and getattr(self.model, critic) is None:
            how = {
                "token_critic": "a token critic: train one (`maskgit train fashion_mnist/critic`)",
                "self_critic": "a critic of its own: train the generator with loss.self_token_critic=true",
            }
            raise ValueError(f"the {name} sampler needs a model with {how[critic]}")
        return Settings(found, guided)

    @torch.no_grad()
    def stream(
        self, labels: Sequence[int], seeds: Sequence[int] | None = None, *, batch_size: int = 64, **options: Any
    ) -> Iterator[Tensor]:
        """Images (channels, height, width) in [-1, 1] one by one, made in batches; options as in `rounds`."""
        seeds = list(range(len(labels))) if seeds is None else list(seeds)
        for start in range(0, len(labels), batch_size):
            part = slice(start, start + batch_size)
            *_, codes = self.rounds(labels[part], seeds[part], **options)
            yield from self._decode(codes)

    def _decode(self, codes: Tensor) -> Iterator[Tensor]:
        """The images of a batch of grids; on the CPU one by one, and small ones on one thread, since the last bits of
        its convolutions depend on the batch and on the number of threads, and image i shall not."""
        if codes.device.type != "cpu":
            yield from self.tokenizer.decode(codes)
            return
        grids, decode = codes.split(1), self.tokenizer.decode
        small = math.prod(self.tokenizer.size_of(codes.shape[1:])) <= ONE_THREAD
        yield from torch.cat(one_thread_each(decode, grids) if small else [decode(grid) for grid in grids])

    def generate(
        self, labels: Sequence[int], seeds: Sequence[int] | None = None, *, batch_size: int = 64, **options: Any
    ) -> list[Image.Image]:
        """One PIL image for each label. Image i depends on labels[i] and seeds[i] only (by default 0, 1, ...)."""
        return [to_pil(image) for image in self.stream(labels, seeds, batch_size=batch_size, **options)]

    @torch.no_grad()
    def edit(self, what: str, image: Image.Image, *, label: int | str, **options: Any) -> list[Image.Image]:
        """An entry of EDITS on a picture: inpaint, outpaint, variation, interpolate -> one image, or several frames.

        options: the edit's (`box=(left, top, right, bottom)`, `mask`, white where to draw, `margins`, `keep`, `other`,
        `seed`, ...) and the sampler's. Pictures are taken as grey or RGB, as the model draws.
        """
        given = dict(options)
        if isinstance(mask := given.get("mask"), Image.Image):
            given["mask"] = to_mask(mask)
        if isinstance(other := given.get("other"), Image.Image):
            given["other"] = to_pixels(other, self.tokenizer.channels)
        if isinstance(other_label := given.get("other_label"), str):
            given["other_label"] = self.label(other_label)
        number = self.label(label) if isinstance(label, str) else label
        pixels = to_pixels(image, self.tokenizer.channels)
        edits = choose(EDITS, what, "edit")(self, pixels, label=number, **given)
        return [to_pil(to_float(edit.image)) for edit in edits]


def class_grid(
    pipeline: Pipeline, labels: Sequence[int], num_columns: int, seed: int = 0, **options: Any
) -> Image.Image:
    """A picture with a named row for each label; the seeds run on from `seed` along the rows."""
    many = [label for label in labels for _ in range(num_columns)]
    images = torch.stack(list(pipeline.stream(many, range(seed, seed + len(many)), **options)))
    return image_grid(images, num_columns=num_columns, row_names=[pipeline.class_names[label] for label in labels])
