"""What some devices lack, and which of them are waited for."""

from __future__ import annotations

import torch


def answers_at_once(device: torch.device) -> bool:
    """Whether the host can read a value there without waiting for work that is not done."""
    return device.type == "cpu"


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's accelerators, which have no other."""
    is_apples = device.type != "cpu" and torch.backends.mps.is_available()
    return torch.float32 if is_apples else torch.float64
