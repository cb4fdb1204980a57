"""The net of the official MaskGIT (Chang et al., arXiv:2202.04200; Apache-2.0)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.model.published.bert import BertBlock, check_heads
from maskgit.model.published.net import Beside, Factors, PublishedNet
from maskgit.model.rows import make_row_invariant
from vqgan.registry import Repeats, Size

EPS = 1e-12


class OfficialMaskGIT(PublishedNet):
    """codes: (batch, h, w), labels (batch,) in [0, num_classes) -> logits.

    It was trained with labels only, so that there is nothing for guidance to lead away from.
    hidden: inner width of the feed-forward layers.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: Size = 768,
        depth: Repeats = 24,
        heads: Size = 16,
        hidden: Size = 3072,
    ) -> None:
        check_heads(dim, heads)
        super().__init__(locals(), emb_dim=dim)
        self.codes = nn.Embedding(codebook_size + 1, dim)
        self.labels = nn.Embedding(num_classes, dim)
        self.positions = nn.Parameter(torch.randn(self.max_seq_len + 1, dim) * 0.02)
        self.first_norm = nn.LayerNorm(dim, eps=EPS)
        self.blocks = nn.ModuleList(
            BertBlock(dim, hidden, eps=EPS, tanh=True) for _ in range(depth)
        )
        self.last = nn.Linear(dim, dim)
        self.last_norm = nn.LayerNorm(dim, eps=EPS)
        self.to_logits = nn.Linear(dim, codebook_size)
        make_row_invariant(self)

    def null(self, condition: Tensor) -> Tensor:
        """ValueError: it knows no such label."""
        raise ValueError(
            "this model was published without a label for none: give every image a label, with "
            "guidance at scale 1 (and loss.condition_dropout=0 in training)"
        )

    def cells(self, codes: Tensor) -> Tensor:
        """(batch, h, w) -> (batch, cells, dim)."""
        return self.codes(codes.flatten(1)) + self.positions[1:]  # type: ignore[no-any-return]

    def by(self, labels: Tensor) -> Beside:
        """A token of the class, which has the first position. ValueError for a label that is none,
        where the host can see it."""
        if labels.device.type == "cpu" and bool((labels >= self.num_classes).any()):
            self.null(labels)
        tokens = (self.labels(labels) + self.positions[0])[:, None]
        return Beside(tokens, tokens[:, :0])

    def start(self, x: Tensor) -> Tensor:
        """(batch, tokens, dim) -> the same shape."""
        return self.first_norm(x)  # type: ignore[no-any-return]

    def finish(self, x: Tensor, factors: Factors) -> Tensor:
        """(n, dim) -> the same shape."""
        return self.last_norm(F.gelu(self.last(x), approximate="tanh"))  # type: ignore[no-any-return]
