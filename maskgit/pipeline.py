"""Pipeline: one line from a checkpoint to PIL images. The command line, the previews and the metrics all use it.

folder/config.json  class names, sampler settings, the run's config
folder/model.safetensors  folder/tokenizer.safetensors  folder/critic.safetensors, if it has a token critic
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from maskgit.guidance import Guided
from maskgit.images import to_pil
from maskgit.plots import image_grid
from maskgit.predictor import Conditioned
from maskgit.samplers import SAMPLERS, needs_critic
from maskgit.transformer import Transformer
from maskgit.wrapper import NonAutoregressiveWrapper
from vqgan.registry import check, split, suggest
from vqgan.tokenizer import Tokenizer
from vqgan.weights import load_weights, replacing, save_weights

FORMAT = "maskgit-pipeline-2"


class Pipeline:
    """A generator with its tokenizer, its class names and its default sampler settings.

    model: a wrapper around a Transformer, with its critic if it has one. run: the config it was trained with.
    sampler: `{name: confidence, steps: 12, ...}`, an entry of SAMPLERS with options; guidance: `{scale, schedule}`.
    data: the images, as the data section of a config, so that it can be measured.
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
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer.eval()
        self.class_names = tuple(class_names)
        self.sampler, self.guidance = sampler, dict(guidance or {})
        self.run, self.data = dict(run or {}), dict(data or {})
        self.sampler_settings()  # refuses what could not be drawn with

    @property
    def transformer(self) -> Transformer:
        """The generator's net."""
        return cast(Transformer, self.model.net)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> Pipeline:
        """Move the weights."""
        self.model.to(device)
        self.tokenizer.to(device)
        return self

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Pipeline:
        """Load what `save_pretrained` wrote, from that folder or from the training run it lies in."""
        folder = Path(folder)
        folder = folder / "pipeline" if (folder / "pipeline").is_dir() else folder
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
        return cls(model, tokenizer, **rest, data=config.get("data"))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write three files, or four, each whole or not at all; foreign files of the folder are left alone."""
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
    def rounds(
        self,
        labels: Sequence[int],
        seeds: Sequence[int] | None = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """The grids (batch, h, w) after each round, hidden cells equal to `model.mask_id`; one batch.

        guidance is the scale, 1 for none; sampler, an entry of SAMPLERS, and options override the pipeline's own.
        """
        if any(not 0 <= label <= len(self.class_names) for label in labels):
            raise ValueError(f"labels lie in 0 .. {len(self.class_names) - 1}, or {len(self.class_names)} for no label")
        seeds = list(range(len(labels))) if seeds is None else list(seeds)
        if len(seeds) != len(labels):
            raise ValueError(f"{len(labels)} labels need as many seeds, not {len(seeds)}")
        name, settings = split(self.sampler_settings(steps=steps, **options), "sampler")
        model = Conditioned(self.model, len(labels), {})
        guided = Guided(model, torch.tensor(labels, device=self.device), **self.guidance_settings(guidance))
        empty = torch.full((len(labels), *self.transformer.grid), self.model.mask_id, device=self.device)
        yield from SAMPLERS[name](guided, empty, seeds, **settings)

    def sampler_settings(
        self, *, sampler: str | Mapping[str, Any] | None = None, steps: int | None = None, **options: Any
    ) -> dict[str, Any]:
        """`{name, ...}` of the sampler, with what a call gives instead; of another one, only the steps are kept.

        ValueError if there is no such sampler or option, or if it needs a critic that is not there.
        """
        name, settings = split(self.sampler, "sampler")
        if sampler is not None:
            other, given = split(sampler, "sampler")
            kept = settings if other == name else {k: v for k, v in settings.items() if k == "steps"}
            name, settings = other, kept | given
        found = {"name": name} | settings | options | ({} if steps is None else {"steps": steps})
        check(SAMPLERS, found, "sampler", ["predictor", "codes", "seeds"])
        if needs_critic(SAMPLERS[name]) and not self.model.has_critic:
            raise ValueError(
                f"the {name} sampler needs a model with a critic: train one (`maskgit train fashion_mnist/critic`), or "
                "the generator with loss.self_token_critic=true"
            )
        return found

    def guidance_settings(self, scale: float | None = None) -> dict[str, Any]:
        """`{scale, schedule, ...}` of the guidance, with the scale that a call gives instead."""
        return self.guidance | ({} if scale is None else {"scale": scale})

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
        """The images of a batch of grids; on the CPU one by one, since the last bits of its convolutions depend on the
        batch, and image i shall not."""
        parts = codes.split(1 if codes.device.type == "cpu" else len(codes))
        for part in parts:
            yield from self.tokenizer.decode(part)

    def generate(
        self, labels: Sequence[int], seeds: Sequence[int] | None = None, *, batch_size: int = 64, **options: Any
    ) -> list[Image.Image]:
        """One PIL image for each label. Image i depends on labels[i] and seeds[i] only (by default 0, 1, ...)."""
        return [to_pil(image) for image in self.stream(labels, seeds, batch_size=batch_size, **options)]


def class_grid(
    pipeline: Pipeline, labels: Sequence[int], num_columns: int, seed: int = 0, **options: Any
) -> Image.Image:
    """A picture with a named row for each label; the seeds run on from `seed` along the rows."""
    many = [label for label in labels for _ in range(num_columns)]
    images = torch.stack(list(pipeline.stream(many, range(seed, seed + len(many)), **options)))
    return image_grid(images, num_columns=num_columns, row_names=[pipeline.class_names[label] for label in labels])


@torch.no_grad()
def strip(pipeline: Pipeline, labels: Sequence[int], seeds: Sequence[int] | None = None, **options: Any) -> Image.Image:
    """A picture with a row for each label: the grid after every round, hidden cells grey, and the image last."""
    f = pipeline.tokenizer.downscale
    columns = []
    for codes in pipeline.rounds(labels, seeds, **options):
        hidden = codes == pipeline.model.mask_id
        images = pipeline.tokenizer.decode(codes, hidden)
        pixels = hidden.repeat_interleave(f, 1).repeat_interleave(f, 2)[:, None]
        columns.append(images.masked_fill(pixels, 0.0))
    return image_grid(torch.stack(columns, 1).flatten(0, 1), num_columns=len(columns))
