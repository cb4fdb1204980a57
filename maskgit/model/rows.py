"""Rows: linear layers whose rows do not depend on their number, so that an image does not depend on
its batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

MIN_ROWS = 16
"""Below 8 rows the CPU's matrix product takes another path; its last bit may differ (AVX-512)."""


def linear_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (..., in) -> (..., out), by at least MIN_ROWS rows."""
    rows = x.shape[:-1].numel()
    if rows >= MIN_ROWS or not rows:
        return F.linear(x, weight, bias)
    padded = F.pad(x.reshape(rows, -1), (0, 0, 0, MIN_ROWS - rows))
    return F.linear(padded, weight, bias)[:rows].view(*x.shape[:-1], len(weight))


class RowInvariantLinear(nn.Linear):
    """A linear layer that pads up to MIN_ROWS.

    It makes image i of a batch bit-identical to the same image alone (on the CPU; see
    tests/pipeline/test_pipeline.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in_features) -> (..., out_features)."""
        return super().forward(x) if self.training else linear_rows(x, self.weight, self.bias)


def make_row_invariant(module: nn.Module) -> None:
    """Turn every plain linear layer inside into a RowInvariantLinear; names and parameters stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = RowInvariantLinear
