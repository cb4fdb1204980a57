"""Pipeline: one line from a checkpoint to PIL images; commands, previews and metrics use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from maskgit.config.presets import Preset
from maskgit.data.pixels import to_pil
from maskgit.machine import usual_batch
from maskgit.model.backbones import Backbone
from maskgit.model.conditioned import Conditioned
from maskgit.model.passes import compiled_layers
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.pipeline.asked import (
    MOST_BATCH,
    MOST_CELLS,
    MOST_SIDE,
    check_codes,
    labels_of,
    no_tokenizer,
    seeds_for,
    whole_numbers,
)
from maskgit.pipeline.called import call
from maskgit.pipeline.decoding import decoded
from maskgit.pipeline.found import found, push_to_hub
from maskgit.pipeline.labels import label_of, numbers_of, parse_labels
from maskgit.pipeline.saved import Parts, read_parts, write_parts
from maskgit.pipeline.settings import Settings, settle
from maskgit.precision import PRECISIONS, dtype_of
from maskgit.samplers import CRITICS, SAMPLERS, rounds_of
from maskgit.samplers.conditions import Condition, batch_of, each, some
from maskgit.samplers.guidance import Guided
from maskgit.samplers.predictor import Filled, Watched
from maskgit.stopping import unless_stopped
from vqgan.chunks import fitting, in_chunks
from vqgan.grids import GridTokenizer
from vqgan.registry import split

CELL_BYTES = 400 * 2**10
"""What sampling takes on an accelerator for a cell: of 24 layers of width 768 with guidance, their
keys and values kept. Larger nets, or a share of the memory that others take, are found out."""

Labels = Sequence[int | str] | Condition
"""Of each image, a class's label or name, num_classes for none; or a condition
(samplers.conditions)."""


class Pipeline:
    """A generator with its tokenizer, its class names and its default sampler settings.

    model: a wrapper around a backbone (BACKBONES), with its critic if it has one. run: the config
    it was trained with. sampler: `{name: confidence, steps: 12, ...}`, an entry of SAMPLERS with
    options; guidance: `{scale, schedule}`. data: the images, as the data section of a config, so
    that it can be measured. presets: other settings, by name.
    """

    def __init__(
        self,
        model: NonAutoregressiveWrapper,
        tokenizer: GridTokenizer | None,
        class_names: Sequence[str],
        *,
        sampler: str | Mapping[str, Any] = "confidence",
        guidance: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        presets: Mapping[str, Preset] | None = None,
    ) -> None:
        self.model = model.eval()
        self.own_tokenizer = None if tokenizer is None else tokenizer.eval()
        self.class_names = tuple(class_names)
        self.sampler, self.guidance = sampler, dict(guidance or {})
        self.run, self.data = dict(run or {}), dict(data or {})
        self.presets = dict(presets or {})
        self.settings()  # these two refuse what could not be drawn
        self.grid_of()

    @property
    def net(self) -> Backbone:
        """The generator's net."""
        return cast(Backbone, self.model.net)

    @property
    def tokenizer(self) -> GridTokenizer:
        """The tokenizer; ValueError says which one it needs, if it is a generator alone."""
        if self.own_tokenizer is None:
            raise no_tokenizer(self.run)
        return self.own_tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def precision(self) -> str:
        """That of the generator's weights, an entry of PRECISIONS."""
        dtype = next(self.model.parameters()).dtype
        return next(name for name, known in PRECISIONS.items() if known == dtype)

    def to(
        self, device: torch.device | str | None = None, *, precision: str | None = None
    ) -> Pipeline:
        """Move the weights; precision: of the generator's: fp32, bf16, or auto.

        In bf16 a sample is no longer that of fp32, but still the same whatever the batch; all
        sampling arithmetic stays in float32, and so do the tokenizer's weights. An accelerator
        decodes in that precision, too.
        """
        self.model.to(device=device, dtype=None if precision is None else dtype_of(precision))
        if self.own_tokenizer is not None:
            self.own_tokenizer.to(device)
        return self

    def compile(self) -> Pipeline:
        """Compile the generator's layers and the decoder, when they first run: then it is quicker.

        Of generators only a maskgit.Transformer without self-conditioning; others stay as they are.
        """
        if hasattr(self.net, "sampling_passes"):
            self.model.net.layers_at = compiled_layers()
        self.tokenizer.decoder.compile()
        return self

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> Pipeline:
        """Load what `save_pretrained` wrote: from that folder, the training run it lies in, or the
        hub, as `user/name`, with a revision and a token (see `found`)."""
        return cls(**read_parts(found(folder, revision, token))._asdict())

    def save_pretrained(self, folder: str | Path, *, precision: str = "fp32") -> Path:
        """Write three or four files and the presets, whole; precision: fp32, or fp16, half."""
        rest = {k: getattr(self, k) for k in Parts._fields if k != "tokenizer"}
        return write_parts(Path(folder), Parts(tokenizer=self.own_tokenizer, **rest), precision)

    __call__ = call
    push_to_hub = push_to_hub

    def label(self, name: str) -> int:
        """The label of a class name, or of a number in text; ValueError names the nearest class."""
        return label_of(name, self.class_names)

    def parse_labels(self, text: str) -> list[int]:
        """`0-9`, `3,3,7`, `bag,ankle boot` or a mixture -> labels."""
        return parse_labels(text, self.class_names)

    @torch.no_grad()
    def rounds(
        self, labels: Labels, seeds: Sequence[int] | None = None, **options: Any
    ) -> Iterator[Tensor]:
        """The grids (batch, h, w) after each round, hidden cells equal to `model.mask_id`; one
        batch.

        options: as in `settings`, and those of `_prepare`: codes, height, width, negative.
        """
        predictor, fill = self._prepare(labels, seeds, **options)
        yield from fill(predictor)

    @torch.no_grad()
    def watch(
        self, labels: Labels, seeds: Sequence[int] | None = None, **options: Any
    ) -> Iterator[Filled]:
        """As `rounds`, with the model's probability of every code when it was drawn."""
        predictor, fill = self._prepare(labels, seeds, **options)
        watched = Watched(predictor)
        for codes in fill(watched):
            yield Filled(codes, watched.confidence(codes))

    def _prepare(
        self,
        labels: Labels,
        seeds: Sequence[int] | None = None,
        *,
        codes: Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        negative: int | str | Condition | None = None,
        mixed_with: Sequence[tuple[int | str, float]] | None = None,
        **options: Any,
    ) -> tuple[Any, Callable[[Any], Iterator[Tensor]]]:
        """A predictor for these labels, and the sampler that takes it.

        codes: grids (batch, h, w) to fill, all hidden by default; cells known in them stay. height,
        width: of the images in pixels, those of the training by default. negative: a label (or a
        condition) to lead away from, instead of from none. mixed_with: for each image another label
        and its share in [0, 1].
        """
        condition = self.condition(labels)
        count = batch_of(condition)
        seeds = seeds_for(count, seeds)
        away = None
        if negative is not None:
            alone = isinstance(negative, str) or not isinstance(negative, Iterable)
            away = self.condition([negative] * count if alone else negative)
        mixed = None
        if mixed_with is not None:
            others, share = zip(*mixed_with, strict=True)
            mixed = self.condition(others), torch.tensor(share)
        found = self.settings(**options)
        name, keywords = split(found.sampler, "sampler")
        if codes is None:
            codes = torch.full((count, *self.grid_of(height, width)), self.model.mask_id)
        elif len(codes) != count:
            raise ValueError(f"{count} labels need as many grids of codes, not {len(codes)}")
        elif height is not None or width is not None:
            raise ValueError("give the grids of codes, or a height and width, not both")
        codes = codes.cpu()  # asked once; from here on the host counts
        check_codes(codes, self.model.mask_id)
        keywords["steps"] = rounds_of(found.sampler, codes[0].numel())
        self.net.check_grid(*codes.shape[1:])
        if negative is not None:
            found.check_negative()
        model = Conditioned(self.model, count, {})
        predictor = Guided(model, condition, negative=away, mixed_with=mixed, **found.guidance)
        return predictor, partial(SAMPLERS[name], codes=codes, seeds=seeds, **keywords)

    def condition(self, labels: Labels) -> Condition:
        """What the net is given for class labels; any other condition stays as it is."""
        if isinstance(labels, Tensor | Mapping):
            return labels
        labels = numbers_of(labels, self.class_names)
        return labels_of(labels, len(self.class_names), self.net.null)

    def grid_of(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """The cells (h, w) of images of a size in pixels, by default the training's.

        ValueError if none fit.
        """
        if height is None and width is None:
            return self.net.grid
        own = self.tokenizer.size_of(self.net.grid)
        height, width = own[0] if height is None else height, own[1] if width is None else width
        whole_numbers([height, width], 1, MOST_SIDE, f"sides lie in 1 .. {MOST_SIDE} pixels")
        if not self.net.any_grid and (height, width) != own:
            raise ValueError(
                f"this model draws {own[0]}x{own[1]} pixels only; "
                "model.positions=rotary draws any size"
            )
        grid = self.tokenizer.grid_of(height, width)
        if math.prod(grid) > MOST_CELLS:
            raise ValueError(
                f"images of {height}x{width} have {math.prod(grid)} codes, {MOST_CELLS} at most"
            )
        return grid

    @torch.no_grad()
    def logits(self, codes: Tensor, labels: Labels | None = None) -> Tensor:
        """What the generator says of every cell: float32 (batch, h, w, codebook_size).

        codes: (batch, h, w) int64, hidden ones codebook_size. labels: as in `generate`; none for no
        label, ValueError if the model knows no such thing. As many images at once as `at_once`.
        """
        codes = torch.as_tensor(codes)
        check_codes(codes, self.model.mask_id)
        self.net.check_grid(*codes.shape[1:])
        if isinstance(labels, Tensor) and labels.ndim == 1:
            labels = labels.tolist()  # and their range is looked at
        condition = self.condition(
            [len(self.class_names)] * len(codes) if labels is None else labels
        )
        if batch_of(condition) != len(codes):
            raise ValueError(f"{len(codes)} grids need as many labels, not {batch_of(condition)}")

        def work(part: slice) -> list[Tensor]:
            given = each(lambda side: side.to(self.device), some(condition, part))
            embeddings = self.model.embed(codes[part].to(self.device), condition=given)
            return [self.model.to_logits(embeddings)]

        size = self.at_once(None, codes.shape[1:])
        return torch.cat([part for found in in_chunks(work, len(codes), size) for part in found])

    def settings(self, **options: Any) -> Settings:
        """What to draw with: the pipeline's own or a preset's, with what a call gives."""
        critics = {name for name in CRITICS.values() if getattr(self.model, name) is not None}
        return settle(Settings(self.sampler, self.guidance), self.presets, critics, **options)

    def at_once(self, batch_size: int | None = None, grid: Sequence[int] | None = None) -> int:
        """How many images are drawn together: `batch_size`, or maskgit.machine.usual_batch, but no
        more than an accelerator has memory for.

        grid: of codes (h, w), the training's by default.
        """
        most = usual_batch() if batch_size is None else batch_size
        [most] = whole_numbers([most], 1, MOST_BATCH, f"batch_size is 1 .. {MOST_BATCH}")
        return fitting(most, CELL_BYTES * math.prod(grid or self.net.grid), self.device)

    @torch.no_grad()
    def stream(
        self,
        labels: Labels,
        seeds: Sequence[int] | None = None,
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Images (channels, height, width) in [-1, 1], made in batches; options as in `rounds`.

        batch_size: as in `at_once`; half as many, and a word on stderr, where memory runs out.
        """
        tokenizer = self.tokenizer  # which a generator alone has not: nothing is drawn then
        condition = self.condition(labels)
        count = batch_of(condition)
        seeds = seeds_for(count, seeds)
        codes = options.get("codes")
        size = options.get("height"), options.get("width")
        grid = self.grid_of(*size) if codes is None else codes.shape[1:]

        def draw(part: slice) -> list[Tensor]:
            given = some(condition, part), seeds[part]
            *_, codes = unless_stopped(self.rounds(*given, **_of(part, options)))
            return list(decoded(tokenizer, codes, PRECISIONS[self.precision]))

        for images in in_chunks(draw, count, self.at_once(batch_size, grid)):
            yield from images

    def generate(
        self,
        labels: Labels,
        seeds: Sequence[int] | None = None,
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> list[Image.Image]:
        """One PIL image for each label.

        Image i depends on labels[i] and seeds[i] only (by default 0, 1, ...).
        """
        return [
            to_pil(image) for image in self.stream(labels, seeds, batch_size=batch_size, **options)
        ]


def _of(part: slice, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of some of the images: codes and mixed_with are of each."""
    each = {key: options[key] for key in ("codes", "mixed_with") if options.get(key) is not None}
    return {**options, **{key: values[part] for key, values in each.items()}}
