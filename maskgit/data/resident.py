"""Codes that lie on an accelerator, where a split fits: a batch is then an index on the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskgit.data.codes import CodeDataset
from maskgit.data.datasets import Batch
from maskgit.machine import upload
from vqgan.chunks import free_memory

SHARE = 0.1
"""Of a device's free memory, what the codes of a split may take."""


class ResidentCodes:
    """A CodeDataset whose batches are gathered where its codes lie: the same, in the same order.

    Only the rows' numbers go to the device, which is not waited for.
    """

    is_resident = True  # no loader is needed, and nothing is to be pinned

    def __init__(self, dataset: CodeDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        views = dataset.num_views
        first = dataset.codes[0]
        self.codes = torch.empty(
            (len(dataset) * views, *dataset.grid), dtype=_same_size(first), device=device
        )
        for shard, start in zip(dataset.codes, dataset.starts, strict=False):
            rows = torch.from_numpy(np.array(shard).reshape(-1, *dataset.grid).view(_plain(shard)))
            self.codes[start * views : start * views + len(rows)] = rows.to(device)
        self.labels = torch.from_numpy(dataset.labels).to(device)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def class_labels(self) -> np.ndarray:
        """The cache's, where the host has them."""
        return self.dataset.labels

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The cache's."""
        return self.dataset.manifest

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of every grid."""
        return self.dataset.grid

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """keys: (index, epoch) pairs -> a Batch on the device."""
        indices, views = self.dataset.views_of(keys)
        rows = np.stack((indices * self.dataset.num_views + views, indices))
        of_codes, of_labels = upload(torch.from_numpy(rows), self.device)
        return Batch(_counted(self.codes[of_codes]), self.labels[of_labels])


def _plain(shard: np.ndarray) -> np.dtype[Any]:
    """The type that torch indexes on every device: int16 in place of uint16, bit for bit."""
    return np.dtype(np.int16) if shard.dtype == np.uint16 else shard.dtype


def _same_size(shard: np.ndarray) -> torch.dtype:
    return torch.from_numpy(np.empty(0, _plain(shard))).dtype


def _counted(codes: Tensor) -> Tensor:
    """int64, from 0 on."""
    return codes.long() & 0xFFFF if codes.dtype == torch.int16 else codes.long()


def on_device(dataset: CodeDataset, device: torch.device) -> CodeDataset | ResidentCodes:
    """The codes on an accelerator, if they take less than SHARE of what is free there."""
    free = free_memory(device)
    size = sum(shard.nbytes for shard in dataset.codes) + dataset.labels.nbytes
    fits = math.isfinite(free) and size < SHARE * free
    return ResidentCodes(dataset, device) if fits else dataset
