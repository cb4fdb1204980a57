"""An exponential moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Params = tuple[Tensor, ...] | list[Tensor]


class EMA(AveragedModel):
    """`ema.module` follows a module: parameters averaged, buffers (e.g. codebooks, averages already) copied.

    The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates, so that short runs do not keep the start.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        super().__init__(module, multi_avg_fn=self._average, use_buffers=False)
        self.decay = decay
        self.module.eval().requires_grad_(False)

    def _average(self, averaged: Params, current: Params, num_averaged: Tensor | int) -> None:
        decay = min(self.decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        torch._foreach_lerp_(averaged, current, 1 - decay)
