"""NonAutoregressiveWrapper: hide codes, predict them, criticise them, and fill whole grids.

Works on any net with the surface of x-transformers' TransformerWrapper, over (batch, n) sequences,
and on our Transformer, over (batch, height, width) grids: `grid` below stands for either.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from maskgit.machine import upload
from maskgit.model.chunked import cross_entropy, draw_rows, is_chunked
from maskgit.model.conditioned import predictor_for
from maskgit.model.critic import TARGETS, SelfCritic, Target, compose, critic_loss, critic_targets
from maskgit.model.draws import Draws, draw
from maskgit.model.likelihood import bits
from maskgit.model.objective import Losses, Normalization, Objective
from maskgit.precision import uncached_autocast
from maskgit.samplers import SAMPLERS, critic_of, rounds_of
from maskgit.samplers.conditions import Condition, leaves, where
from maskgit.samplers.predictor import places_of
from maskgit.schedules import ScheduleSpec, get_schedule
from vqgan.registry import Share, choose


class NonAutoregressiveWrapper(nn.Module):
    """Trains and samples a masked-code model (arXiv:1904.09324; MaskGIT, arXiv:2202.04200).

    schedule: of the hidden share in training; sampling_schedule: in `generate`, else the same.
    normalization: "cell" weighs every hidden cell of a step alike, "image" every image.
    label_smoothing: towards the uniform distribution.
    visible_weight: of the cross-entropy on cells that are not hidden.
    condition_dropout: share of the images whose condition becomes the net's `null`, so that
        guidance has an unconditional model.
    use_simple_mdlm_loss_weight: MDLM's bound (arXiv:2406.07524), see maskgit.model.objective.
    self_cond: the net is run once without gradient, and its embeddings (for the share
        `self_cond_train_prob` of the images; a learned null for the others) are added to the input
        of the second run by a linear map that starts at 0.
    token_critic: a second net of the same surface with one logit a cell; self_token_critic: one
        linear head on this net's own embeddings. critic_target: see maskgit.model.critic.

    In eval mode the loss is the cross-entropy on hidden cells without smoothing, noise and visible
    cells. Different from x_transformers.NonAutoregressiveWrapper, on purpose:
    - the schedule is cosine and MDLM's weight is off: theirs has the wrong sign and divides by
      gamma twice, so that their default loss is negative and training ends in NaN; ours is a bound.
    - no_replace_prob and random_token_prob are 0 (MaskGIT uses neither), a coin for each cell, not
      one for the batch; random codes are never the mask token, which is never generated either.
    - the critic learns on the composed grid, so that visible true cells are never called drawn,
      with the generator's conditioning, at temperature 1; the net is registered once.
    - `generate` keeps the token temperature constant and adds Gumbel noise to the confidence: else
      all images of a class are alike. With a critic, accepted cells may be hidden again.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        mask_id: int,
        steps: int = 12,
        self_cond: bool = False,
        self_cond_train_prob: Share = 0.75,
        no_replace_prob: Share = 0.0,
        random_token_prob: Share = 0.0,
        schedule: ScheduleSpec = "cosine",
        sampling_schedule: ScheduleSpec | None = None,
        can_mask_prev_unmasked: bool | None = None,
        token_critic: nn.Module | None = None,
        self_token_critic: bool = False,
        critic_loss_weight: Annotated[float, Ge(0)] = 1.0,
        critic_target: Target = "changed",
        use_simple_mdlm_loss_weight: bool = False,
        label_smoothing: Share = 0.1,
        visible_weight: Share = 0.0,
        normalization: Normalization = "cell",
        condition_dropout: Share = 0.1,
    ) -> None:
        super().__init__()
        if critic_target not in TARGETS:
            raise ValueError(f"critic_target is one of {', '.join(TARGETS)}, not {critic_target!r}")
        if token_critic is not None and self_token_critic:
            raise ValueError("give a token_critic or self_token_critic, not both")
        if can_mask_prev_unmasked and token_critic is None and not self_token_critic:
            raise ValueError(
                "can_mask_prev_unmasked needs a critic: without one, nothing scores the cells known"
            )
        self.net: Any = net  # any module with the surface named above
        self.mask_id, self.steps = mask_id, steps
        self.objective = Objective(
            get_schedule(schedule),
            normalization,
            label_smoothing,
            visible_weight,
            no_replace_prob,
            random_token_prob,
            use_simple_mdlm_loss_weight,
        )
        self.sampling_schedule = get_schedule(
            schedule if sampling_schedule is None else sampling_schedule
        )
        self.condition_dropout = condition_dropout
        self.self_cond, self.self_cond_train_prob = self_cond, self_cond_train_prob
        dim: Any = net.emb_dim if self_cond or self_token_critic else 0
        if self_cond:
            self.null_embed = nn.Parameter(torch.randn(dim))
            self.to_self_cond = nn.Linear(dim, dim, bias=False)
            # else it drowns the codes' embeddings, a fifth as large, at first
            nn.init.zeros_(self.to_self_cond.weight)
        self.token_critic: nn.Module | None = token_critic
        self.self_critic = SelfCritic(dim) if self_token_critic else None
        self.critic_loss_weight, self.critic_target = critic_loss_weight, critic_target
        self.is_compiled = False  # places are then filled up, so that all steps have one shape
        self.can_mask_prev_unmasked = can_mask_prev_unmasked is not False

    @property
    def num_codes(self) -> int:
        """The codes that exist: ids below the mask token."""
        return self.mask_id

    @property
    def current(self) -> Objective:
        """The objective of this mode, training or eval."""
        return self.objective if self.training else self.objective.evaluated

    @property
    def has_critic(self) -> bool:
        """Whether there is a critic, which `generate` then asks."""
        return self.token_critic is not None or self.self_critic is not None

    def embed(
        self,
        inputs: Tensor,
        last: Tensor | None = None,
        cells: Tensor | None = None,
        **conditioning: Any,
    ) -> Tensor:
        """The net's embeddings (batch, *grid, dim); `last`: self-condition, none for the null.

        cells: bool, as the grid, or their numbers in row-major order, (n,) int64: only of these,
        (n, dim). Without self-conditioning `last` is not used. A `sum_embeds` of the caller's is
        added to, not replaced.
        """
        if self.self_cond:
            extra = self.to_self_cond(
                self.null_embed.expand(*inputs.shape, -1) if last is None else last
            )
            given = conditioning.get("sum_embeds")
            conditioning = {**conditioning, "sum_embeds": extra if given is None else given + extra}
        if cells is not None and hasattr(self.net, "embed_at"):
            return self.net.embed_at(inputs, cells, **conditioning)  # type: ignore[no-any-return]
        embeddings = self.net(inputs, return_embeddings=True, **conditioning)
        if inputs.ndim == 2:
            embeddings = embeddings[:, -inputs.shape[1] :]  # without what was prepended
        if cells is None:
            return embeddings  # type: ignore[no-any-return]
        places = places_of(cells) if cells.dtype == torch.bool else cells
        return embeddings.flatten(0, -2).index_select(0, places)  # type: ignore[no-any-return]

    def to_logits(self, embeddings: Tensor) -> Tensor:
        """(cells, dim) -> float32 (cells, num_codes); a mask token has no probability."""
        return self.net.to_logits(embeddings).float()[..., : self.num_codes]

    def criticise(self, codes: Tensor, own: bool | None = None, **conditioning: Any) -> Tensor:
        """One logit a cell of a full grid, high where it looks drawn: (batch, *grid) for both.

        own: by the self-critic, else by the token critic; by default the latter, if there is one.
        """
        own = self.token_critic is None if own is None else own
        critic = self.self_critic if own else self.token_critic
        if critic is None:
            raise ValueError(
                "this wrapper has no such critic: give it a token_critic or self_token_critic=True"
            )
        if own:
            return critic(self.embed(codes, **conditioning))
        return critic(codes, **conditioning).view_as(codes)

    def draw(
        self,
        num_images: int,
        grid: Sequence[int],
        generator: torch.Generator | None = None,
        t: Tensor | None = None,
    ) -> Draws:
        """What chance decides of each image of a step; t: (num_images,), stratified by default."""
        return draw(self, (num_images, *grid), generator, t)

    def forward(
        self,
        codes: Tensor,
        only_train_generator: bool = False,
        only_train_critic: bool = False,
        generator_sample_temperature: float = 1.0,
        *,
        condition: Condition | None = None,
        draws: Draws | None = None,
        t: Tensor | None = None,
        normalizer: float | Tensor | None = None,
        num_parts: int = 1,
        generator: torch.Generator | None = None,
        **conditioning: Any,
    ) -> Losses:
        """codes: (batch, *grid) int64 in [0, num_codes) -> Losses. condition: of each image
        (samplers.conditions).

        draws: what chance decides, drawn here by default. t: (batch,) progress of each image, drawn
        stratified by default. normalizer: what the summed loss is divided by, when this call is one
        part of a larger step (see `objective.weight_of`); by default this call's own weight.
        num_parts: in how many equal calls the step is made; the critic's loss, a mean, is divided
        by it. generator: of what is drawn here, and of the critic's codes. conditioning
        (`embed_ids`, `context`, `sum_embeds`, ...) is passed to the net, and to the critic, as it
        is. only_train_critic: no gradient reaches the generator through its own loss.
        """
        draws = self.draw(len(codes), codes.shape[1:], generator, t) if draws is None else draws
        objective = self.current
        if normalizer is None:
            normalizer = upload(objective.weight_of(draws.t, codes[0].numel()), codes.device)
        places = draws.places(objective.everywhere, codes.device, self.is_compiled)
        here = draws.on(codes.device)
        if condition is not None:
            conditioning["condition"] = self.drop(condition, here.dropped)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not only_train_critic):
            loss, known = self.predict(codes, here, places, conditioning)
            loss = loss / normalizer
        if not self.has_critic or only_train_generator:
            return Losses(loss, loss.detach(), None)
        known = draws.of_hidden(known.detach(), objective.everywhere)
        head = self.to_logits if is_chunked(len(places), self.num_codes) else None
        drawn = draw_rows(head, known, self.num_codes, generator_sample_temperature, generator)
        composed = compose(codes, here.hidden, drawn)
        targets = critic_targets(codes, composed, here.hidden, self.critic_target)
        judged = critic_loss(self.criticise(composed, **conditioning), targets) / num_parts
        total = judged if only_train_critic else loss + self.critic_loss_weight * judged
        return Losses(total, loss.detach(), judged.detach())

    def predict(
        self, codes: Tensor, draws: Draws, places: Tensor, conditioning: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """The summed loss of codes as the draws show them, and the logits at `places` (n,), or the
        embeddings where those are too many."""
        inputs = torch.where(draws.shown < 0, codes, draws.shown)
        last = self.self_condition(inputs, draws.first, conditioning)
        cells = places.clamp(min=0)
        truth, smoothing = codes.flatten().index_select(0, cells), self.current.label_smoothing
        embedded = self.embed(inputs, last, cells, **conditioning)
        losses, known = cross_entropy(self.to_logits, embedded, truth, self.num_codes, smoothing)
        return self.current.summed(losses, draws.hidden, draws.t, places), known

    def self_condition(
        self, inputs: Tensor, seeing: Tensor | None, conditioning: Mapping[str, Any]
    ) -> Tensor | None:
        """What the second pass is conditioned on: embeddings of a first one, which some images
        see, bool (batch,), by default all; others the null.

        None without self-conditioning.
        """
        if not self.self_cond:
            return None
        # a weight that autocast converts without gradient must not be what the second pass gets
        with torch.no_grad(), uncached_autocast(inputs.device):
            first = self.embed(inputs, **conditioning)
        if seeing is None:
            return first
        return torch.where(seeing.view(-1, *[1] * (inputs.ndim)), first, self.null_embed)

    def drop(self, condition: Condition, dropped: Tensor | None) -> Condition:
        """The null in place of the condition of some images, bool (batch,); none: as it is."""
        if dropped is None:
            return condition
        return where(dropped, self.net.null(condition), condition)

    def bits(
        self,
        codes: Tensor,
        *,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
        **conditioning: Tensor,
    ) -> Tensor:
        """An upper bound on -log2 p(codes | condition) / N: (batch,); maskgit.model.likelihood."""
        if condition is not None:
            conditioning["condition"] = condition
        return bits(self, codes, conditioning, generator)

    @torch.no_grad()
    def generate(
        self,
        batch_size: int | None = None,
        start_temperature: float = 1.0,
        filter_thres: float | None = None,
        noise_level_scale: float = 1.0,
        *,
        condition: Condition | None = None,
        seeds: Sequence[int] | None = None,
        guidance: float = 1.0,
        sampler: str | None = None,
        steps: int | None = None,
        **options: Any,
    ) -> Tensor:
        """New codes: (batch, *grid) int64, or (*grid) if neither batch_size, condition nor seeds
        are given.

        start_temperature: token temperature, the same in every round. filter_thres: only the best
        (1 - filter_thres) of the codes are drawn from. noise_level_scale: of the critic's noise.
        guidance: its scale. seeds: one for each image (0, 1, ... by default). sampler: an entry of
        SAMPLERS, by default that of the critic where there is one, else "confidence". options go to
        the sampler where it knows them, else to the net (`embed_ids`, `context`, `sum_embeds`,
        `prepend_embeds`, ...).
        """
        one = batch_size is None and condition is None and seeds is None
        known = condition if condition is None else leaves(condition)[0]
        batch_size = next((len(x) for x in (known, seeds) if x is not None), batch_size or 1)
        grid = getattr(self.net, "grid", (self.net.max_seq_len,))
        codes = torch.full((batch_size, *grid), self.mask_id)
        sampler = sampler or self.own_sampler
        fill = choose(SAMPLERS, sampler, "sampler")
        taken = inspect.signature(fill).parameters
        mine = {key: options.pop(key) for key in [*options] if key in taken}
        predictor = predictor_for(self, codes, condition, guidance, options)
        if critic_of(fill):
            stays = not self.can_mask_prev_unmasked
            mine = {"noise_scale": noise_level_scale, "keep_known": stays} | mine
        if filter_thres is not None:
            mine["top_k"] = math.ceil((1 - filter_thres) * self.num_codes)
        mine = {"schedule": self.sampling_schedule, "temperature": start_temperature} | mine
        mine["steps"] = rounds_of({"name": sampler, "steps": steps or self.steps}, codes[0].numel())
        seeds = range(batch_size) if seeds is None else seeds
        was_training = self.training
        self.eval()
        try:
            *_, codes = fill(predictor, codes, seeds, **mine)
        finally:
            self.train(was_training)
        return codes[0] if one else codes

    @property
    def own_sampler(self) -> str:
        """The entry of SAMPLERS that asks this model's critic, or "confidence" if it has none."""
        if self.token_critic is not None:
            return "critic"
        return "confidence" if self.self_critic is None else "self_critic"
