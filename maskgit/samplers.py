"""Samplers fill the hidden cells of a grid in a few rounds: generators over a Predictor that yield it after each.

All arithmetic is in float32 at least: bf16 confidence has a handful of distinct values. Image i depends on its own
seed and the round only, whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, get_type_hints

import torch
from torch import Tensor

from maskgit.randomness import uniforms
from maskgit.schedules import Schedule, get_schedule


class Predictor(Protocol):
    """All that a sampler may know of a model."""

    mask_id: int

    def logits(self, codes: Tensor, cells: Tensor, r: float) -> Tensor:
        """Logits at the chosen cells only.

        codes: (batch, h, w) int64; cells: bool (batch, h, w); r: progress in (0, 1] after this round
        -> (cells.sum(), codebook_size), in row-major order of `cells`. The mask token is not among them.
        """
        ...


class Drawn(NamedTuple):
    """Codes drawn for some cells."""

    codes: Tensor  # (cells,) int64
    log_probs: Tensor  # (cells,) float32, of the drawn code under the distribution it was drawn from


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """-inf for all but the k largest of the last axis."""
    k = min(k, logits.shape[-1])
    return logits.masked_fill(logits < logits.topk(k, dim=-1).values[..., -1:], -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """-inf for all but the smallest set of codes that holds probability p (nucleus sampling, arXiv:1904.09751)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return logits.masked_fill((before >= p).scatter(-1, order, before >= p), -torch.inf)


def draw(
    logits: Tensor, u: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Drawn:
    """One code a row by inverting the cumulative distribution at u: one uniform number a cell, one softmax.

    logits: (cells, codebook_size); u: (cells,) float64 in [0, 1). temperature 0 takes the most likely code.
    """
    logits = logits.float()
    if temperature != 1 and temperature > 0:
        logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    probs = logits.softmax(-1)
    if temperature == 0:
        codes = logits.argmax(-1)
    else:
        cdf = probs.double().cumsum(-1)
        codes = torch.searchsorted(cdf, (u.to(cdf) * cdf[:, -1])[:, None], right=True)[:, 0]
        codes = codes.clamp_(max=logits.shape[-1] - 1)
    chosen = probs.gather(-1, codes[:, None])[:, 0]
    return Drawn(codes, chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log())


def gumbel(u: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform numbers: -log(-log u), u clamped away from 0 and 1."""
    return -torch.log(-torch.log(u.clamp(1e-20, 1 - 1e-16)))


def num_hidden_after(schedule: Schedule, steps: int, num_hidden: Tensor) -> Iterator[tuple[float, Tensor]]:
    """(r, how many cells stay hidden) for each round that does something (MaskGIT's decoder).

    num_hidden: (batch,) at the start. floor(N0 gamma(r)), but every round reveals at least one cell and all but the
    last leave one; steps beyond the number of hidden cells run nothing.
    """
    left = num_hidden
    for k in range(steps):
        r = (k + 1) / steps
        wanted = (num_hidden.double() * schedule(torch.tensor(r, dtype=torch.float64)).item() + 1e-9).floor().long()
        wanted = torch.minimum(wanted.clamp(min=1), left - 1).clamp(min=0)
        left = torch.zeros_like(left) if k == steps - 1 else wanted
        yield r, left
        if not left.any():
            return


Policy = Callable[[Tensor, Tensor, Drawn, Tensor, float], Tensor]
"""(codes, hidden, drawn, u, r) -> scores (batch, cells): the highest are hidden again, and -inf never is.

codes: (batch, h, w), full; hidden: bool (batch, h, w), the cells `drawn` in this round; u: (batch, cells) noise in
[0, 1).
"""


def _fill(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    policy: Policy,
    *,
    steps: int,
    schedule: str | Mapping[str, Any] | Schedule,
    **drawing: Any,
) -> Iterator[Tensor]:
    """The one loop of all samplers: draw every hidden cell, then hide again as many as the schedule says.

    `policy` is not asked in the last round; drawing: the options of `draw`.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    codes = codes.clone()
    at_start = (codes == predictor.mask_id).flatten(1).sum(1)
    if not at_start.any():
        return
    for k, (r, num_hidden) in enumerate(num_hidden_after(get_schedule(schedule), steps, at_start)):
        hidden = codes == predictor.mask_id
        u_code, u_choice = uniforms(seeds, k, (2, codes[0].numel())).to(codes.device).unbind(1)
        drawn = draw(predictor.logits(codes, hidden, r), u_code[hidden.flatten(1)], **drawing)
        codes[hidden] = drawn.codes
        if num_hidden.any():
            scores = policy(codes, hidden, drawn, u_choice, r)
            rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            codes[(rank < num_hidden[:, None]).view_as(codes)] = predictor.mask_id
        yield codes.clone()


def confidence(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 12,
    schedule: str | Mapping[str, Any] | Schedule = "cosine",
    temperature: float = 1.0,
    choice_temperature: float = 4.5,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """MaskGIT's decoder (arXiv:2202.04200): draw every hidden cell, keep the most confident, hide the rest again.

    codes: (batch, h, w) int64, hidden cells equal to `predictor.mask_id`; seeds: one for each image. Yields the grid
    after each round; the last has no hidden cell. Cells known at the start are never touched. Confidence is
    log p(drawn) + choice_temperature (1 - r) Gumbel noise.
    """

    def least_confident(codes: Tensor, hidden: Tensor, drawn: Drawn, u: Tensor, r: float) -> Tensor:
        cells = hidden.flatten(1)
        scores = torch.full(u.shape, -torch.inf, device=codes.device)
        scores[cells] = -(drawn.log_probs + choice_temperature * (1 - r) * gumbel(u[cells]).float())
        return scores

    drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from _fill(predictor, codes, seeds, least_confident, steps=steps, schedule=schedule, **drawing)


class Critical(Predictor, Protocol):
    """A Predictor that also says which cells of a full grid look drawn."""

    def scores(self, codes: Tensor, r: float) -> Tensor:
        """codes: (batch, h, w) int64, none hidden -> logits (batch, h, w), high = drawn."""
        ...


def critic(
    predictor: Critical,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 12,
    schedule: str | Mapping[str, Any] | Schedule = "cosine",
    temperature: float = 1.0,
    noise_scale: float = 1.0,
    keep_known: bool = False,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """Token-Critic's sampler (arXiv:2209.04439): draw every hidden cell, hide again those that look drawn the most.

    As `confidence`, but cells accepted in an earlier round may be hidden again unless `keep_known`: that is what a
    critic is for. Cells known at the start never are. The score is the critic's logit + noise_scale (1 - r) times
    uniform noise in [-1/2, 1/2), as in Muse's code; the critic does not run after the last round.
    """
    given = codes != predictor.mask_id

    def most_suspect(codes: Tensor, hidden: Tensor, drawn: Drawn, u: Tensor, r: float) -> Tensor:
        scores = predictor.scores(codes, r).float().flatten(1) + noise_scale * (1 - r) * (u - 0.5).float()
        return scores.masked_fill((~hidden if keep_known else given).flatten(1), -torch.inf)

    drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from _fill(predictor, codes, seeds, most_suspect, steps=steps, schedule=schedule, **drawing)


Sampler = Callable[..., Iterator[Tensor]]
SAMPLERS: dict[str, Sampler] = {"confidence": confidence, "critic": critic}


def needs_critic(sampler: Sampler) -> bool:
    """Whether a sampler asks for a Critical predictor."""
    return get_type_hints(sampler)["predictor"] is Critical
