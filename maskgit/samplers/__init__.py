"""Samplers fill the hidden cells of a grid in a few rounds: generators over a Predictor that yield it after each."""

from __future__ import annotations

from typing import get_type_hints

from maskgit.samplers.engine import Predictor, Sampler
from maskgit.samplers.policies import Critical, ancestral, confidence, critic, halton, random, remask

__all__ = ["SAMPLERS", "Critical", "Predictor", "Sampler", "needs_critic"]

SAMPLERS: dict[str, Sampler] = {
    "confidence": confidence,
    "halton": halton,
    "random": random,
    "critic": critic,
    "remask": remask,
    "ancestral": ancestral,
}


def needs_critic(sampler: Sampler) -> bool:
    """Whether a sampler asks for a Critical predictor."""
    return get_type_hints(sampler)["predictor"] is Critical
