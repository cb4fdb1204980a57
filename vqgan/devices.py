"""What some devices lack."""

from __future__ import annotations

from functools import cache

import torch


@cache
def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no other (Apple's)."""
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except TypeError:
        return torch.float32
    return torch.float64
