"""What some devices lack."""

from __future__ import annotations

import torch

FLOAT32_AT_MOST = torch.backends.mps.is_available()
"""Whether this machine's accelerator is Apple's, which has no float64."""


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no other."""
    return torch.float32 if FLOAT32_AT_MOST and device.type != "cpu" else torch.float64
