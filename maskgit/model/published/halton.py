"""The net of Halton-MaskGIT (Besnier et al., arXiv:2503.17076; MIT), as its files hold it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.published.net import Attend, Beside, Block, Factors, PublishedNet
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Repeats, Size

EPS = 1e-5


def rms(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + EPS) over the last axis."""
    return F.rms_norm(x, x.shape[-1:], eps=EPS)


class HaltonBlock(Block):
    """Adaptive RMS norms, queries and keys normalised over all heads at once, and SwiGLU."""

    num_factors = (3, 3)

    def __init__(self, dim: int, inner: int, hidden: int) -> None:
        super().__init__()
        self.to_factors = nn.Linear(dim, 6 * dim)
        self.ln1, self.ln2 = (nn.Parameter(torch.ones(dim)) for _ in range(2))
        self.wq, self.wk, self.wv = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.wo = nn.Linear(inner, dim, bias=False)
        self.w1, self.w3 = (nn.Linear(dim, hidden, bias=False) for _ in range(2))
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def mix(self, x: Tensor, factors: Factors, attend: Attend) -> Tensor:
        """x: (batch, tokens, dim)."""
        shift, scale, gate = factors
        h = rms(x) * self.ln1 * (1 + scale) + shift
        return x + gate * self.wo(attend(rms(self.wq(h)), rms(self.wk(h)), self.wv(h)))  # type: ignore[no-any-return]

    def feed(self, x: Tensor, factors: Factors) -> Tensor:
        """x: (batch, tokens, dim), or (n, dim)."""
        shift, scale, gate = factors
        h = rms(x) * self.ln2 * (1 + scale) + shift
        return x + gate * self.w2(F.silu(self.w1(h)) * self.w3(h))  # type: ignore[no-any-return]


class Halton(PublishedNet):
    """codes: (batch, h, w), labels (batch,) -> logits; width of a head: dim // heads.

    hidden: inner width of the feed-forward layers; registers: tokens that are no cell.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: Size = 768,
        depth: Repeats = 12,
        heads: Size = 12,
        hidden: Size = 2048,
        registers: int = 1,
    ) -> None:
        super().__init__(locals(), emb_dim=dim)
        self.codes = nn.Embedding(codebook_size + 1, dim)
        self.labels = nn.Embedding(num_classes + 1, dim)
        self.positions = nn.Parameter(torch.randn(self.max_seq_len, dim) * 0.02)
        self.registers = nn.Parameter(torch.randn(registers, dim) * 0.02)
        inner = dim // heads * heads
        self.blocks = nn.ModuleList(HaltonBlock(dim, inner, hidden) for _ in range(depth))
        self.last_factors = nn.Linear(dim, 2 * dim)
        self.norm_weight = nn.Parameter(torch.ones(dim))
        self.norm_bias = nn.Parameter(torch.zeros(dim))
        self.to_logits = nn.Linear(dim, codebook_size)
        make_row_invariant(self)

    def cells(self, codes: Tensor) -> Tensor:
        """(batch, h, w) -> (batch, cells, dim)."""
        return self.codes(codes.flatten(1)) + self.positions  # type: ignore[no-any-return]

    def by(self, labels: Tensor) -> Beside:
        """The registers, and the factors of all adaptive norms."""
        vectors = self.labels(labels)
        # in whole groups of 64: what is left over of a batch is computed another way on CPUs
        vectors = F.silu(F.pad(vectors, (0, -self.emb_dim % 64)))[:, : self.emb_dim]
        makers = [*(block.to_factors for block in self.blocks), self.last_factors]
        factors = torch.cat([make(vectors) for make in makers], 1)
        tokens = self.registers.expand(len(labels), -1, -1)
        return Beside(tokens, factors.unflatten(1, (-1, self.emb_dim)))

    def finish(self, x: Tensor, factors: Factors) -> Tensor:
        """(n, dim) -> the same shape."""
        shift, scale = factors
        normed = rms(x) * self.norm_weight + self.norm_bias
        return normed * (1 + scale) + shift
