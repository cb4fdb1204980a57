"""Samplers that draw all hidden cells and hide the worst again, by confidence or a critic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from maskgit.machine import upload
from maskgit.samplers.engine import (
    Drawn,
    Policy,
    Ramp,
    Round,
    Rounds,
    as_hidden,
    counted,
    device_of,
    falling,
    fill,
    gumbel,
    highest,
    ramp_at,
)
from maskgit.samplers.predictor import Critical, Predictor, SelfCritical
from maskgit.schedules import ScheduleSpec
from vqgan.registry import Positive, Share


def confidence(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    choice_temperature: Ramp = (4.5, 0.0),
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """MaskGIT's sampler (arXiv:2202.04200): draw every hidden cell, hide the least confident ones
    again.

    codes: (batch, h, w) with hidden cells equal to the mask id; seeds: one for each image. Yields
    codes (batch, h, w) after each round; the last has no hidden cell. Cells known at the start are
    never touched. Confidence is log p(drawn) + choice temperature times Gumbel noise; a single
    choice temperature falls to 0, as MaskGIT's. With `refresh` > 1, known cells run through the net
    in every n-th round only (see `fill`).
    """
    choice = falling(choice_temperature, "choice_temperature")

    def least_confident(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        noise = ramp_at(choice, now.r) * gumbel(now.u).float()
        scores = -(drawn.log_probs.flatten(1) + noise)
        scores = scores.masked_fill(~cells.flatten(1), -torch.inf)
        return highest(scores, now.num_hidden).view_as(codes)

    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    rounds = counted(schedule, steps)
    policy = Policy(hide=least_confident, counts=as_hidden)
    yield from fill(predictor, codes, seeds, policy, rounds=rounds, **drawing)


def _most_suspect(
    scores_of: Callable[[Tensor, float], Tensor], given: Tensor, noise_scale: Ramp, keep_known: bool
) -> Policy:
    """Hide again the cells that look drawn the most; given: (batch, h, w), which stay."""
    scale = falling(noise_scale, "noise_scale")

    def most_suspect(codes: Tensor, cells: Tensor, drawn: Drawn, now: Round) -> Tensor:
        noise = ramp_at(scale, now.r) * (now.u - 0.5).float()
        scores = scores_of(codes, now.r).float().flatten(1) + noise
        scores = scores.masked_fill((~cells if keep_known else given).flatten(1), -torch.inf)
        return highest(scores, now.num_hidden).view_as(codes)

    return Policy(hide=most_suspect, counts=as_hidden)


def _given(predictor: Predictor, codes: Tensor) -> Tensor:
    """The cells known at the start, where the predictor computes."""
    return upload(codes != predictor.mask_id, device_of(predictor, codes))


def critic(
    predictor: Critical,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    noise_scale: Ramp = (1.0, 0.0),
    keep_known: bool = False,
    top_k: Positive | None = None,
    top_p: Share | None = None,
) -> Iterator[Tensor]:
    """Token-Critic's sampler (arXiv:2209.04439): draw every hidden cell, hide again those that look
    drawn the most.

    As `confidence`, but cells accepted in an earlier round may be hidden again unless `keep_known`:
    that is what a critic is for. Cells known at the start never are. The score is the critic's
    logit + noise scale times uniform noise in [-1/2, 1/2), as in Muse's code; a single noise scale
    falls to 0. The critic does not run after the last round.
    """
    policy = _most_suspect(predictor.scores, _given(predictor, codes), noise_scale, keep_known)
    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)


def self_critic(
    predictor: SelfCritical,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    noise_scale: Ramp = (1.0, 0.0),
    keep_known: bool = False,
    top_k: Positive | None = None,
    top_p: Share | None = None,
) -> Iterator[Tensor]:
    """As `critic`, with the generator as its own critic: one head on its embeddings, one more pass
    a round."""
    policy = _most_suspect(predictor.self_scores, _given(predictor, codes), noise_scale, keep_known)
    drawing: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)
