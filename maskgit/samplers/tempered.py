"""A sampler in which a cell's temperature depends on how unsure the net is of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from maskgit.samplers.engine import (
    Drawn,
    Level,
    Ramp,
    Round,
    Rounds,
    counted,
    draw,
    entropy,
    fill,
)
from maskgit.samplers.ordered import at_random
from maskgit.samplers.predictor import Predictor
from maskgit.schedules import ScheduleSpec
from vqgan.registry import Positive, Share

LEAST = 1e-3
"""The smallest temperature of a cell."""


def tempered(
    predictor: Predictor,
    codes: Tensor,
    seeds: Sequence[int],
    *,
    steps: Rounds = 12,
    schedule: ScheduleSpec = "cosine",
    temperature: Ramp = 1.0,
    by_entropy: tuple[Level, Level] = (1.0, 0.8),
    top_k: Positive | None = None,
    top_p: Share | None = None,
    refresh: Positive = 1,
) -> Iterator[Tensor]:
    """As `random`, with each cell's temperature by its entropy (after Zhang et al.,
    arXiv:2403.14541).

    by_entropy: what the temperature is multiplied with where the net is sure, and where it finds
    every code as likely, with a straight line over the entropy between; (1, 1) is `random`.
    """
    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "refresh": refresh,
    }
    policy = at_random(predictor, codes, seeds)._replace(draw=partial(_draw, by_entropy))
    yield from fill(predictor, codes, seeds, policy, rounds=counted(schedule, steps), **drawing)


def _draw(
    by_entropy: tuple[float, float],
    logits: Tensor,
    u: Tensor,
    now: Round,
    *,
    temperature: float,
    **cut: Any,
) -> Drawn:
    """Rows over temperatures of their own."""
    sure, unsure = by_entropy
    share = entropy(logits) / math.log(max(2, logits.shape[-1]))
    each = (temperature * (sure + (unsure - sure) * share)).clamp_min(LEAST)
    return draw(logits.float() / each[:, None], u, **cut)
