"""What some devices lack."""

from __future__ import annotations

import torch


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's accelerators, which have no other."""
    is_apples = device.type != "cpu" and torch.backends.mps.is_available()
    return torch.float32 if is_apples else torch.float64
