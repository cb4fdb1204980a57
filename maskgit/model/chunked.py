"""Heads over many codes: the logits of a whole batch never exist at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from maskgit.model.critic import draw_at
from maskgit.precision import uncached_autocast

Head = Callable[[Tensor], Tensor]
"""(n, dim) -> float32 logits (n, num_codes)."""
MOST_LOGITS = 2**26
"""At once; a step keeps about five tensors of their size."""


def is_chunked(num_rows: int, num_codes: int) -> bool:
    """Whether the logits of so many rows are made in chunks."""
    return num_rows * num_codes > MOST_LOGITS


def cross_entropy(
    head: Head, cells: Tensor, truth: Tensor, num_codes: int, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Of embeddings (n, dim) and codes (n,): (n,), and the logits, which in chunks are not kept.

    Then the embeddings come in their place, and the backward pass makes the logits of each chunk
    again: the same numbers but for the order of sums.
    """
    if not is_chunked(cells.shape[0], num_codes):
        return _of_rows(head, cells, truth, label_smoothing)

    def of_part(part: Tensor, codes: Tensor) -> Tensor:
        with uncached_autocast(part.device):  # else the chunks' gradients are summed in bf16
            return _of_rows(head, part, codes, label_smoothing)[0]

    size = max(1, MOST_LOGITS // num_codes)
    losses = [
        checkpoint(
            of_part,
            *part,
            use_reentrant=False,
            preserve_rng_state=False,  # a head draws nothing, and a device would be waited for
        )
        for part in zip(cells.split(size), truth.split(size), strict=True)
    ]
    return torch.cat(losses), cells


def _of_rows(
    head: Head, cells: Tensor, truth: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    logits = head(cells)
    losses = F.cross_entropy(logits, truth, reduction="none", label_smoothing=label_smoothing)
    return losses, logits


@torch.no_grad()
def draw_rows(
    head: Head | None,
    known: Tensor,
    num_codes: int,
    temperature: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One code a row, (n,) int64, of logits (n, num_codes), or by a head of embeddings (n, dim)."""
    if head is None:
        return draw_at(known, temperature, generator)
    parts = known.split(max(1, MOST_LOGITS // num_codes))
    return torch.cat([draw_at(head(part), temperature, generator) for part in parts])
