"""Token critics: which cells of a grid were drawn by the generator? One logit a cell, high = drawn.

Token-Critic (Lezama et al., arXiv:2209.04439) is a second net; a self-critic is one linear head on
the generator's own embeddings. Both see the composed grid (drawn codes on hidden cells, true ones
elsewhere) and the same conditioning as the generator.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Target = Literal["changed", "hidden"]
TARGETS = get_args(Target)


def compose(codes: Tensor, hidden: Tensor, drawn: Tensor) -> Tensor:
    """codes with `drawn` (hidden.sum(),) written on the cells `hidden`: (batch, *grid) int64."""
    return codes.masked_scatter(hidden, drawn)


def critic_targets(
    codes: Tensor, composed: Tensor, hidden: Tensor, target: str = "changed"
) -> Tensor:
    """1.0 where a cell is to be called drawn: (batch, *grid) float32.

    "changed": where the composed grid differs from the truth, so that a lucky draw is no mistake; a
    visible cell is never one. "hidden": wherever the generator drew (the paper's).
    """
    return (composed != codes if target == "changed" else hidden).float()


def critic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy over all cells. logits: (batch, *grid), or with a last axis of one."""
    return F.binary_cross_entropy_with_logits(logits.float().view_as(targets), targets)


class SelfCritic(nn.Module):
    """One linear head on the embeddings of a generator, which is registered elsewhere, once."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_logit = nn.Linear(dim, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(batch, *grid, dim) -> (batch, *grid)."""
        return self.to_logit(embeddings)[..., 0]


def draw_at(logits: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """One code a row: (cells, codes) -> (cells,) int64.

    The first of exponential clocks, each as quick as its code is likely: no device is asked whether
    the probabilities are some, as torch.multinomial does.
    """
    probs = (logits.float() / max(temperature, 1e-3)).softmax(-1)
    clocks = torch.empty_like(probs).exponential_(generator=generator)
    return (probs / clocks).argmax(-1)
