"""Samplers fill a grid's hidden cells in rounds over a Predictor, and yield it after each.

engine.py is the one loop of all; the files beside it say which cells a round draws and hides again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

from maskgit.samplers.bounded import bounded
from maskgit.samplers.engine import Sampler
from maskgit.samplers.moment import moment
from maskgit.samplers.ordered import halton, random
from maskgit.samplers.predictor import Critical, Predictor, SelfCritical
from maskgit.samplers.remasking import ancestral, remask
from maskgit.samplers.scored import confidence, critic, self_critic
from maskgit.samplers.tempered import tempered
from vqgan.faces import face
from vqgan.registry import options_of, split

__getattr__, _, _others = face(
    __name__,
    {
        "conditions": [
            "Condition",
            "Distinct",
            "batch_of",
            "distinct",
            "each",
            "leaves",
            "numbers",
            "some",
            "where",
        ],
        "guidance": ["GUIDANCE_SCHEDULES", "Guided", "Mix"],
        "predictor": ["PART", "Filled", "Known", "Watched", "places_of"],
    },
)
__all__ = [
    "BY_CHANCE",
    "CRITICS",
    "SAMPLERS",
    "Critical",
    "Predictor",
    "Sampler",
    "SelfCritical",
    "critic_of",
    "rounds_of",
]
__all__ += _others


def __dir__() -> list[str]:
    return __all__


SAMPLERS: dict[str, Sampler] = {
    "confidence": confidence,
    "moment": moment,
    "halton": halton,
    "random": random,
    "tempered": tempered,
    "critic": critic,
    "self_critic": self_critic,
    "remask": remask,
    "ancestral": ancestral,
    "bounded": bounded,
}
BY_CHANCE = {"remask", "ancestral"}
"""Samplers in which every cell has a coin of its own: more rounds than cells are not in vain."""


def rounds_of(sampler: Mapping[str, Any], num_hidden: int) -> int:
    """The rounds of a choice `{name, steps, ...}` for so many hidden cells.

    No more than there are cells, where more would be in vain: temperatures and guidance then run
    their whole course.
    """
    name, options = split(sampler, "sampler")
    steps: int = options.get("steps", options_of(SAMPLERS[name])["steps"].default)
    return steps if name in BY_CHANCE else max(1, min(steps, num_hidden))


CRITICS: dict[Any, str] = {Critical: "token_critic", SelfCritical: "self_critic"}


def critic_of(sampler: Sampler) -> str | None:
    """The critic that a sampler asks, by its predictor: "token_critic", "self_critic" or none."""
    return CRITICS.get(get_type_hints(sampler).get("predictor"))
