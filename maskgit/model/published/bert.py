"""BertBlock: attention, then two linear layers with a GELU between, as BERT has them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.published.net import Attend, Block, Factors


class BertBlock(Block):
    """Norms follow each sum (BERT, arXiv:1810.04805), or precede each half with `prenorm`.

    tanh: the GELU's approximation by a tanh.
    """

    def __init__(
        self, dim: int, hidden: int, *, eps: float, prenorm: bool = False, tanh: bool = False
    ) -> None:
        super().__init__()
        self.prenorm, self.approximate = prenorm, "tanh" if tanh else "none"
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=eps) for _ in range(2))
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.w1, self.w2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def mix(self, x: Tensor, factors: Factors, attend: Attend) -> Tensor:
        """x: (batch, tokens, dim)."""
        h = self.norm1(x) if self.prenorm else x
        h = x + self.to_out(attend(*self.to_qkv(h).chunk(3, -1)))
        return h if self.prenorm else self.norm1(h)  # type: ignore[no-any-return]

    def feed(self, x: Tensor, factors: Factors) -> Tensor:
        """x: (batch, tokens, dim), or (n, dim)."""
        h = self.norm2(x) if self.prenorm else x
        h = x + self.w2(F.gelu(self.w1(h), approximate=self.approximate))
        return h if self.prenorm else self.norm2(h)  # type: ignore[no-any-return]


def check_heads(dim: int, heads: int) -> None:
    """ValueError if a width does not divide into heads."""
    if dim % heads:
        raise ValueError(f"a width of {dim} does not divide into {heads} heads")
