"""Reading: a published file -> its tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Foreign(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    path: Path
    sha256: str
    wrapper: str | None = None


def read_tensors(path: Path) -> Foreign:
    """The tensors of a file of torch."""
    found = torch.load(path, weights_only=True, mmap=True)
    inner = ("ema", "model", "state_dict", "model_state_dict")
    found = next((found[key] for key in inner if isinstance(found.get(key), dict)), found)
    return Foreign(found, {}, path, hashlib.sha256(path.read_bytes()).hexdigest())
