"""NonAutoregressiveWrapper: hide codes, predict them, and fill whole grids.

Works on any net with the surface of x-transformers' TransformerWrapper, over (batch, n) sequences, and on our
Transformer, over (batch, height, width) grids: `grid` below stands for either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.guidance import Guided
from maskgit.samplers import SAMPLERS
from maskgit.schedules import Schedule, get_schedule
from vqgan.registry import choose

NORMALIZATIONS = ("cell", "image")


class Losses(NamedTuple):
    """What a training forward returns; the same fields as x-transformers'."""

    loss: Tensor  # what to differentiate, scalar
    generator_loss: Tensor  # the cross-entropy of the codes, scalar
    critic_loss: Tensor | None  # none without a critic


class Corrupted(NamedTuple):
    """A grid as the net sees it."""

    inputs: Tensor  # (batch, *grid) int64, hidden cells mostly equal to mask_id
    hidden: Tensor  # (batch, *grid) bool, True = to be predicted


def stratified_times(num_images: int, generator: torch.Generator | None = None) -> Tensor:
    """t_i = (u + i) / B mod 1: uniform each, spread evenly over the batch (low variance). (num_images,) float32."""
    device = generator.device if generator is not None else "cpu"
    u = torch.rand((), generator=generator, device=device)
    return (u + torch.arange(num_images, device=device)) / num_images


def count_hidden(schedule: Schedule, t: Tensor, num_cells: int) -> Tensor:
    """How many cells are hidden at progress t: max(1, round(gamma(t) N)). (batch,) int64."""
    return (schedule(t) * num_cells).round().long().clamp(1, num_cells)


def corrupt(
    codes: Tensor,
    num_hidden: Tensor,
    *,
    mask_id: int,
    num_codes: int,
    no_replace_prob: float = 0.0,
    random_token_prob: float = 0.0,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """Hide exactly `num_hidden[i]` cells of image i, uniformly.

    Of the hidden cells, the share `no_replace_prob` keeps its true code as input; of the rest, the share
    `random_token_prob` gets a uniform code in [0, num_codes), never the mask token. All others get `mask_id`.
    """
    flat = codes.flatten(1)
    noise = torch.rand(flat.shape, generator=generator, device=codes.device)
    hidden = noise.argsort(1).argsort(1) < num_hidden[:, None]
    inputs = torch.where(hidden, mask_id, flat)
    if random_token_prob > 0:
        swap = torch.rand(flat.shape, generator=generator, device=codes.device) < random_token_prob
        random_codes = torch.randint(num_codes, flat.shape, generator=generator, device=codes.device)
        inputs = torch.where(hidden & swap, random_codes, inputs)
    if no_replace_prob > 0:
        keep = torch.rand(flat.shape, generator=generator, device=codes.device) < no_replace_prob
        inputs = torch.where(hidden & keep, flat, inputs)
    return Corrupted(inputs.view_as(codes), hidden.view_as(codes))


class _Unconditional:
    """A Predictor over a net that knows no `labels`; other conditioning is passed on to it."""

    def __init__(self, net: nn.Module, mask_id: int, conditioning: Mapping[str, Any]) -> None:
        self.net: Any = net
        self.mask_id, self.conditioning = mask_id, conditioning

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """Drops the mask token where the net's head has one: it must never be generated."""
        embeddings = self.net(codes, return_embeddings=True, **self.conditioning)
        return self.net.to_logits(embeddings[cells])[:, : self.mask_id]


class NonAutoregressiveWrapper(nn.Module):
    """Trains and samples a masked-code model (Mask-Predict, arXiv:1904.09324; MaskGIT, arXiv:2202.04200).

    schedule: of the hidden share in training; sampling_schedule: in `generate`, the same by default.
    normalization: "cell" weighs every hidden cell of a step alike, "image" every image. In eval mode the loss is the
    plain cross-entropy on hidden cells: no smoothing, no noise, no visible cells.
    label_smoothing: towards the uniform distribution. visible_weight: of the cross-entropy on cells not hidden.
    label_dropout: share of the images whose label is dropped, so that guidance has an unconditional model.

    Different from x_transformers.NonAutoregressiveWrapper, on purpose: the schedule is cosine and the loss the plain
    cross-entropy (their default weight has the wrong sign, so their loss is negative); no_replace_prob and
    random_token_prob are 0 (MaskGIT uses neither); random codes are never the mask token, which is never generated.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        mask_id: int,
        steps: int = 12,
        schedule: str | Mapping[str, Any] | Schedule = "cosine",
        sampling_schedule: str | Mapping[str, Any] | Schedule | None = None,
        no_replace_prob: float = 0.0,
        random_token_prob: float = 0.0,
        label_smoothing: float = 0.1,
        visible_weight: float = 0.0,
        normalization: str = "cell",
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization is one of {', '.join(NORMALIZATIONS)}, not {normalization!r}")
        self.net: Any = net  # any module with the surface named above
        self.mask_id, self.steps = mask_id, steps
        self.schedule = get_schedule(schedule)
        self.sampling_schedule = get_schedule(schedule if sampling_schedule is None else sampling_schedule)
        self.no_replace_prob, self.random_token_prob = no_replace_prob, random_token_prob
        self.label_smoothing, self.visible_weight = label_smoothing, visible_weight
        self.normalization, self.label_dropout = normalization, label_dropout

    @property
    def num_codes(self) -> int:
        """The codes that exist: ids below the mask token."""
        return self.mask_id

    def forward(
        self,
        codes: Tensor,
        *,
        labels: Tensor | None = None,
        t: Tensor | None = None,
        normalizer: float | Tensor | None = None,
        generator: torch.Generator | None = None,
        **conditioning: Tensor,
    ) -> Losses:
        """codes: (batch, *grid) int64 in [0, num_codes), labels: (batch,) for a net that takes them -> Losses.

        t: (batch,) progress of each image, drawn stratified by default. normalizer: what the summed loss is divided
        by, when this call is one part of a larger step (see `weight_of`); by default this call's own weight.
        conditioning (`condition`, `embed_ids`, `context`, `sum_embeds`, ...) is passed to the net as it is.
        """
        if t is None:
            t = stratified_times(len(codes), generator)
        num_hidden = count_hidden(self.schedule, t.to(codes.device), codes[0].numel())
        corrupted = corrupt(
            codes,
            num_hidden,
            mask_id=self.mask_id,
            num_codes=self.num_codes,
            no_replace_prob=self.no_replace_prob if self.training else 0.0,
            random_token_prob=self.random_token_prob if self.training else 0.0,
            generator=generator,
        )
        if labels is not None:
            conditioning["labels"] = self.drop_labels(labels, generator)
        embeddings = self.net(corrupted.inputs, return_embeddings=True, **conditioning)
        loss = self._cross_entropy(embeddings, codes, corrupted.hidden, normalizer)
        return Losses(loss, loss.detach(), None)

    def drop_labels(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """While training, replace the share `label_dropout` of labels (batch,) by "no label", one coin an image."""
        if not self.label_dropout or not self.training:
            return labels
        dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < self.label_dropout
        return torch.where(dropped, self.net.num_classes, labels)

    def weight_of(self, t: Tensor, num_cells: int) -> Tensor:
        """What the loss of images at progress t (batch,) is divided by: the weights of their cells, or the images."""
        if self.normalization == "image":
            return torch.tensor(float(len(t)), device=t.device)
        return self._cell_weights(count_hidden(self.schedule, t, num_cells), num_cells).sum()

    def _cell_weights(self, num_hidden: Tensor, num_cells: int) -> Tensor:
        """The weights of all cells of each image together: (batch,)."""
        return num_hidden + (num_cells - num_hidden) * (self.visible_weight if self.training else 0.0)

    def _cross_entropy(
        self, embeddings: Tensor, codes: Tensor, hidden: Tensor, normalizer: float | Tensor | None = None
    ) -> Tensor:
        """The head runs on the rows that cost something: hidden cells, and visible ones only if they have a weight.

        In eval mode the plain cross-entropy on hidden cells.
        """
        visible_weight = self.visible_weight if self.training else 0.0
        cells = torch.ones_like(hidden) if visible_weight else hidden
        smoothing = self.label_smoothing if self.training else 0.0
        logits = self.net.to_logits(embeddings[cells]).float()
        losses = F.cross_entropy(logits, codes[cells], reduction="none", label_smoothing=smoothing)
        weights = torch.where(hidden[cells], 1.0, visible_weight)
        of_images = self._cell_weights(hidden.flatten(1).sum(1), hidden[0].numel())
        if self.normalization == "image":
            weights = weights / of_images.view(-1, *[1] * (codes.ndim - 1)).expand_as(codes)[cells]
        if normalizer is None:
            normalizer = of_images.sum() if self.normalization == "cell" else len(codes)
        return (losses * weights).sum() / normalizer

    @torch.no_grad()
    def bits(
        self,
        codes: Tensor,
        *,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        **conditioning: Tensor,
    ) -> Tensor:
        """An unbiased estimate, for each image, of an upper bound on -log2 p(codes) / N: (batch,) float64, bits a code.

        The bound is MDLM's (arXiv:2406.07524, eq. 10): w(t) times the summed cross-entropy of independently hidden
        cells, over N. With the linear schedule the number m of hidden cells is uniform in 1 .. N after weighting, so
        that it equals the mean over m of the mean cross-entropy of m cells hidden at random (the likelihood over
        random orders of Uria et al., arXiv:1310.1757): the same expectation, whatever schedule was trained, and less
        variance. m is stratified over the batch. A perfect model's value is the entropy of the data. Set eval mode.
        """
        num_cells = codes[0].numel()
        t = stratified_times(len(codes), generator).to(codes.device).double()
        num_hidden = 1 + (t * num_cells).floor().long().clamp(max=num_cells - 1)
        inputs, hidden = corrupt(codes, num_hidden, mask_id=self.mask_id, num_codes=self.num_codes, generator=generator)
        if labels is not None:
            conditioning["labels"] = labels
        embeddings = self.net(inputs, return_embeddings=True, **conditioning)
        logits = self.net.to_logits(embeddings[hidden]).float()[:, : self.num_codes]
        losses = F.cross_entropy(logits, codes[hidden], reduction="none").double()
        sums = torch.zeros(len(codes), dtype=torch.float64, device=codes.device)
        sums.index_add_(0, hidden.nonzero()[:, 0], losses)
        return sums / num_hidden / math.log(2)

    @torch.no_grad()
    def generate(
        self,
        batch_size: int | None = None,
        *,
        labels: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        guidance: float = 1.0,
        sampler: str = "confidence",
        steps: int | None = None,
        temperature: float = 1.0,
        conditioning: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Tensor:
        """New codes: (batch, *grid) int64, or (*grid) if neither batch_size, labels nor seeds are given.

        seeds: one for each image (0, 1, ... by default); labels: (batch,). options go to the sampler, see SAMPLERS.
        """
        if labels is not None and conditioning:
            raise ValueError("give labels or conditioning, not both")
        one = batch_size is None and labels is None and seeds is None
        batch_size = next((len(x) for x in (labels, seeds) if x is not None), batch_size or 1)
        seeds = list(range(batch_size)) if seeds is None else seeds
        device = next(self.net.parameters()).device
        grid = getattr(self.net, "grid", (self.net.max_seq_len,))
        codes = torch.full((batch_size, *grid), self.mask_id, device=device)
        was_training = self.training
        self.eval()
        predictor = (
            Guided(self.net, labels.to(device), scale=guidance)
            if labels is not None
            else _Unconditional(self.net, self.mask_id, conditioning or {})
        )
        fill = choose(SAMPLERS, sampler, "sampler")
        rounds = fill(
            predictor,
            codes,
            seeds,
            steps=steps or self.steps,
            schedule=self.sampling_schedule,
            temperature=temperature,
            **options,
        )
        for filled in rounds:
            codes = filled
        self.train(was_training)
        return codes[0] if one else codes
