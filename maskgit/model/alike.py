"""Alike: which images of a first round are equal, so that each runs once."""

from __future__ import annotations

import torch
from torch import Tensor

from maskgit.samplers.conditions import Condition, Distinct, distinct
from maskgit.samplers.predictor import Known


def first_alike(codes: Tensor, condition: Condition | None, known: Known | None) -> Distinct | None:
    """Which images of a first round are equal, if any are, and if that can be known here.

    On the host of all grids with their conditions; elsewhere only of blank ones.
    """
    found = None if known is None else known.alike
    if codes.device.type == "cpu":
        found = distinct(codes, condition)
    elif condition is None and known is not None and known.blank:
        zeros = torch.zeros(len(codes), dtype=torch.int64)
        found = Distinct(zeros[:1], zeros)
    return found if found is not None and len(found.first) < len(codes) else None
