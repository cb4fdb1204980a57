"""Mask schedules gamma(t): progress t in [0, 1] -> share of hidden cells, from 1 to 0.

t = 0 is all hidden, t = 1 all known. Training draws t at random; a sampler walks it in equal steps.
The two schedules are separate choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor

from vqgan.devices import widest_float
from vqgan.registry import Above, OneOf, check, choose, split

Schedule = Callable[[Tensor], Tensor]


def linear(t: Tensor) -> Tensor:
    """Equal steps; mean hidden share 1/2."""
    return 1 - t


def cosine(t: Tensor) -> Tensor:
    """Reveal few codes at first and many at the end (MaskGIT, arXiv:2202.04200); mean 2/pi."""
    return torch.cos(t * (math.pi / 2))


def arccos(t: Tensor) -> Tensor:
    """As cosine, turned about the diagonal (Besnier et al., arXiv:2310.14400); mean 2/pi."""
    return torch.acos(t) * (2 / math.pi)


def root(t: Tensor) -> Tensor:
    """Many codes at first; mean 1/3."""
    return 1 - t.sqrt()


def square(t: Tensor) -> Tensor:
    """1 - t^2; mean 2/3."""
    return 1 - t**2


def cubic(t: Tensor) -> Tensor:
    """1 - t^3; mean 3/4."""
    return 1 - t**3


def poly(t: Tensor, *, power: Annotated[float, Gt(0)] = 2.0) -> Tensor:
    """1 - t^power; mean power / (power + 1)."""
    return 1 - t**power


def sigmoid(
    t: Tensor, *, start: float = -3.0, end: Annotated[float, Above("start")] = 3.0
) -> Tensor:
    """A logistic curve from `start` to `end` (Jabri et al., arXiv:2212.11972), rescaled to hit 1
    and 0; mean 1/2."""
    high, low = 1 / (1 + math.exp(start)), 1 / (1 + math.exp(end))
    return (torch.sigmoid(-(start + (end - start) * t)) - low) / (high - low)


SCHEDULES: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "cosine": cosine,
    "arccos": arccos,
    "root": root,
    "square": square,
    "cubic": cubic,
    "poly": poly,
    "sigmoid": sigmoid,
}


ScheduleSpec = Annotated[str | Mapping[str, Any] | Schedule, OneOf(SCHEDULES, "schedule", ("t",))]
"""`cosine`, `{name: poly, power: 3}`, or a callable of one's own."""


def get_schedule(spec: ScheduleSpec) -> Schedule:
    """A callable as it is; `cosine` or `{name: poly, power: 3}` from the table.

    Clamped to [0, 1] against rounding.
    """
    if callable(spec):
        return spec
    check(SCHEDULES, spec, "schedule", given=["t"])
    name, options = split(spec, "schedule")
    curve = partial(choose(SCHEDULES, name, "schedule"), **options)
    return lambda t: curve(t).clamp(0, 1)


END = 1e-5
"""How near to 0 and 1 progress is taken where a weight would be infinite."""


def mdlm_weight(schedule: Schedule, t: Tensor) -> Tensor:
    """-gamma'(t) / gamma(t) > 0, MDLM's weight on the sum of hidden cells, in our clock: (batch,).

    (Sahoo et al., arXiv:2406.07524, eq. 10, with gamma = 1 - alpha and time running towards the
    data.) linear: 1 / (1 - t); cosine: (pi / 2) tan(pi t / 2). In the device's widest
    float, t clamped to [END, 1 - END]; the schedule's slope is taken by automatic differentiation,
    so that any differentiable callable will do.
    """
    t = t.to(widest_float(t.device)).clamp(END, 1 - END)
    gamma, slope = torch.func.jvp(schedule, (t,), (torch.ones_like(t),))  # type: ignore[misc]
    return -slope / gamma
