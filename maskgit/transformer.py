"""Transformer: codes and labels -> logits. The only file that imports x_transformers."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

with warnings.catch_warnings():  # its import still calls torch.jit.script, deprecated in torch 2.14
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from x_transformers import Encoder, TransformerWrapper

MIN_ROWS = 16
"""Below 8 rows the CPU's matrix product takes another path, whose last bit may differ; measured on AVX-512."""


FLASH_FROM = 128
"""Cells from which torch's fused attention is used; below, plain attention is faster on the CPU (1.35x at 49 cells)."""


class RowInvariantLinear(nn.Linear):
    """A linear layer whose rows do not depend on how many rows there are: small inputs are padded to MIN_ROWS.

    It makes image i of a batch bit-identical to the same image alone (on the CPU; see tests/test_pipeline.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in_features) -> (..., out_features)."""
        rows = x.shape[:-1].numel()
        if self.training or rows >= MIN_ROWS:
            return super().forward(x)
        padded = F.pad(x.reshape(rows, -1), (0, 0, 0, MIN_ROWS - rows))
        return super().forward(padded)[:rows].view(*x.shape[:-1], self.out_features)


def _make_row_invariant(module: nn.Module) -> None:
    """Turn every plain linear layer inside into a RowInvariantLinear; names and parameters stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = RowInvariantLinear


class Transformer(nn.Module):
    """A bidirectional transformer over a grid of codes, conditioned on a class by adaptive norms.

    codes: (batch, height, width) int64 in [0, codebook_size], codebook_size being the mask token.
    labels: (batch,) int64 in [0, num_classes], num_classes being "no label".
    flash: torch's fused attention; by default from FLASH_FROM cells on. num_outputs: logits of a cell, by default one
    for each code; 1 for a token critic.

    It has the surface of x-transformers' TransformerWrapper that NonAutoregressiveWrapper asks for (`emb_dim`,
    `num_tokens`, `return_embeddings`, `sum_embeds`, `to_logits`), over (height, width) grids.
    """

    def __init__(
        self,
        *,
        codebook_size: int,
        grid: tuple[int, int],
        num_classes: int,
        dim: int = 256,
        depth: int = 6,
        heads: int = 4,
        dim_head: int = 64,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        label_in_input: bool = True,
        flash: bool | None = None,
        num_outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self.codebook_size, self.num_classes = codebook_size, num_classes
        self.mask_id = codebook_size
        self.grid = (int(grid[0]), int(grid[1]))
        self.emb_dim, self.num_tokens, self.output_is_log_prob = dim, codebook_size + 1, False
        self.max_seq_len = self.grid[0] * self.grid[1]
        self.label_embedding = nn.Embedding(num_classes + 1, dim)
        nn.init.normal_(self.label_embedding.weight, std=0.5)
        self.label_to_input = nn.Linear(dim, dim, bias=False) if label_in_input else None
        layers = Encoder(
            dim=dim,
            depth=depth,
            heads=heads,
            attn_dim_head=dim_head,
            attn_flash=self.max_seq_len >= FLASH_FROM if flash is None else flash,
            attn_dropout=dropout,
            ff_dropout=dropout,
            ff_mult=mlp_ratio,
            dim_condition=dim,
            use_adaptive_layernorm=True,
            use_adaptive_layerscale=True,
        )
        self.net = TransformerWrapper(
            num_tokens=self.num_tokens,
            logits_dim=num_outputs or codebook_size,
            max_seq_len=self.max_seq_len,
            attn_layers=layers,
        )
        _make_row_invariant(self)

    @property
    def to_logits(self) -> nn.Module:
        """(..., dim) -> (..., codebook_size)."""
        return self.net.to_logits

    def forward(
        self,
        codes: Tensor,
        labels: Tensor | None = None,
        *,
        sum_embeds: Tensor | None = None,
        return_embeddings: bool = False,
    ) -> Tensor:
        """codes: (batch, height, width) -> logits: (batch, height, width, codebook_size), or embeddings.

        labels: (batch,), none meaning "no label" for all; sum_embeds: (batch, height, width, dim) added to the input.
        """
        height, width = codes.shape[1:]
        if (height, width) != self.grid:
            raise ValueError(f"this model was trained on grids of {self.grid}, got ({height}, {width})")
        if labels is None:
            labels = codes.new_full((len(codes),), self.num_classes)
        condition = self.label_embedding(labels)
        extra: Any = sum_embeds.flatten(1, 2) if sum_embeds is not None else None
        if self.label_to_input is not None:
            label = self.label_to_input(condition)[:, None]
            extra = label if extra is None else extra + label
        embeddings = self.net(codes.flatten(1), condition=condition, sum_embeds=extra, return_embeddings=True)
        embeddings = embeddings.unflatten(1, (height, width))
        return embeddings if return_embeddings else self.to_logits(embeddings)


@torch.no_grad()
def num_parameters(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())
