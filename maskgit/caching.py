"""CachedPass: a pass of the net over some cells of a grid, which attend to kept keys and values of all the others.

In a round most cells are what they were: known ones do not change, and hidden ones that nobody asks for need no answer.
So a whole pass is made now and then, and between two of them only the cells that are drawn, or have changed, run (the
idea of ENAT, arXiv:2411.06959, and LazyMAR, arXiv:2503.12450, without training anything). What the others would say by
now is out of date a little; with a whole pass in every round nothing is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class CachedPass:
    """Embeddings of a maskgit.Transformer for the same batch, round after round; every `refresh`-th pass is whole."""

    def __init__(self, net: Any, refresh: int) -> None:
        self.net, self.refresh = net, refresh
        self.passes = 0
        self.codes: Tensor | None = None  # (batch, cells) of the last pass
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}  # layer -> keys, values: (batch, heads, cells, dim_head)
        self.embeddings: Tensor | None = None  # (batch, cells, dim)

    def embed(self, codes: Tensor, labels: Tensor | None, cells: Tensor) -> Tensor:
        """codes: (batch, h, w), labels: (batch,), cells: bool (batch, h, w) -> (batch, h, w, dim), new at `cells`.

        A whole pass, too, if the batch is of another size than the last one (guidance begins or ends).
        """
        flat = codes.flatten(1)
        x, condition, angles = self.net.inputs(codes, labels)
        is_whole = self.codes is None or self.codes.shape != flat.shape or self.passes % self.refresh == 0
        if is_whole:
            self.embeddings = self._layers(x, condition, angles)
        else:
            wanted = cells.flatten(1) | (flat != self.codes)
            most = int(wanted.sum(1).max())
            places = wanted.int().argsort(dim=1, descending=True, stable=True)[:, :most]
            own = wanted.gather(1, places)  # rows with fewer cells are filled up with others, which stay as they were
            assert self.embeddings is not None
            if most:
                found = self._layers(_taken(x, places), condition, angles, places, own)
                found = torch.where(own[:, :, None], found, _taken(self.embeddings, places))
                self.embeddings = self.embeddings.scatter(1, _wide(places, found), found)
        self.codes = flat.clone()
        self.passes += 1
        assert self.embeddings is not None
        return self.embeddings.unflatten(1, codes.shape[1:])

    def _layers(
        self,
        x: Tensor,
        condition: Tensor,
        angles: Tensor | None,
        places: Tensor | None = None,
        own: Tensor | None = None,
    ) -> Tensor:
        """All layers for the cells at `places` (batch, m), by default all. x: (batch, m, dim) -> the same shape.

        own: bool (batch, m), whose keys and values are to be kept.
        """
        layers = self.net.net.attn_layers
        for number, (norms, block, _) in enumerate(layers.layers):
            normed = norms[0](x, condition=condition)
            attention = hasattr(block.fn, "to_q")
            out = self._attend(number, block.fn, normed, angles, places, own) if attention else block.fn(normed)
            x = x + out * block.to_gamma(condition).sigmoid()[:, None]
        out = layers.final_norm(x, condition=condition)
        assert isinstance(out, Tensor)
        return out

    def _attend(
        self, layer: int, fn: Any, x: Tensor, angles: Tensor | None, places: Tensor | None, own: Tensor | None
    ) -> Tensor:
        """Attention of some cells to all; their keys and values are kept."""
        q = fn.split_q_heads(fn.to_q(x))
        k, v = fn.split_k_heads(fn.to_k(x)), fn.split_v_heads(fn.to_v(x))
        if angles is not None:
            turn = angles if places is None else angles[0][places]
            q, k = self.net.rotate(q, turn), self.net.rotate(k, turn)
        if places is not None and own is not None:
            where, new = places[:, None, :, None].expand_as(k), own[:, None, :, None]
            k, v = (
                old.scatter(2, where, torch.where(new, side, old.gather(2, where)))
                for old, side in zip(self.kept[layer], (k, v), strict=True)
            )
        self.kept[layer] = (k, v)
        if self.net.flash:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
            out = scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
        return fn.to_out(fn.merge_heads(out))


def _wide(places: Tensor, like: Tensor) -> Tensor:
    """(batch, m) -> (batch, m, dim), an index for gather and scatter."""
    return places[:, :, None].expand(-1, -1, like.shape[-1])


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """x: (batch, cells, dim), places: (batch, m) -> (batch, m, dim)."""
    return x.gather(1, _wide(places, x))
