"""ClassTokenNet: nets that see the label as one more token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskgit.model.published.net import Beside, PublishedNet


class ClassTokenNet(PublishedNet):
    """A net whose label is one more token, with a row of the table and a position of its own.

    Which place the token has in its project's sequences makes no difference: attention has no order
    but that of the positions.
    """

    def __init__(
        self, codebook_size: int, grid: tuple[int, int], num_classes: int, dim: int, heads: int
    ) -> None:
        shape = {"codebook_size": codebook_size, "grid": grid, "num_classes": num_classes}
        super().__init__({**shape, "dim": dim, "heads": heads}, emb_dim=dim)
        self.codes = nn.Embedding(codebook_size + 1, dim)
        self.labels = nn.Embedding(num_classes + 1, dim)
        self.positions = nn.Parameter(torch.randn(self.max_seq_len, dim) * 0.02)
        self.label_position = nn.Parameter(torch.randn(dim) * 0.02)

    def cells(self, codes: Tensor) -> Tensor:
        """(batch, h, w) -> (batch, cells, dim)."""
        return self.codes(codes.flatten(1)) + self.positions  # type: ignore[no-any-return]

    def by(self, labels: Tensor) -> Beside:
        """The label's token; there are no adaptive norms."""
        tokens = (self.labels(labels) + self.label_position)[:, None]
        return Beside(tokens, tokens[:, :0])
