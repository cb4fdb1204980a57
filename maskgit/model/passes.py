"""Passes of a net that compute no more than is asked for.

embed_at: an exact pass, whose last feed-forward layer runs on the asked cells only. Passes: those
of one sampling. The factors of adaptive norms are computed once; and with `refresh` > 1, some
passes are over some cells only, which attend to kept keys and values of all the others. In a round
most cells are what they were: known ones do not change, and hidden ones that nobody asks for need
no answer. So a whole pass is made now and then, and between two of them only the cells that are
drawn, or have changed, run (the idea of ENAT, arXiv:2411.06959, and of LazyMAR, arXiv:2503.12450,
without training anything). What the others would say by now is out of date a little; with a whole
pass in every round nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgit.machine import upload
from maskgit.model.alike import first_alike
from maskgit.model.graphs import graphs_of
from maskgit.model.rows import linear_rows
from maskgit.samplers.conditions import Condition, Distinct
from maskgit.samplers.predictor import Known, places_of

Keep = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(layer, keys, values) of the cells that run -> those that they attend to: (batch, heads, cells,
dim_head)."""

AROUND = "around"
"""The name of what a block may have, (work, *given) -> work(*given): its weights, where they are in
shards (maskgit.training.sharding), are whole inside."""


class OfImages(Protocol):
    """A NamedTuple of what a net has of each image, the same in every cell and round."""

    def of(self, images: Tensor) -> OfImages:
        """That of some images."""
        ...

    def __iter__(self) -> Iterator[Tensor]:
        """Tensors whose first axis is the batch."""
        ...


class Layered(Protocol):
    """What Passes ask of a net."""

    emb_dim: int

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""
        ...

    def inputs(
        self, codes: Tensor, condition: Condition | None, sum_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the layers get (batch, cells, dim), what `by` is made of (batch, ...), and rotary
        angles, if any. A net may run one cell for several codes, which lie side by side."""
        ...

    def by(self, vectors: Tensor) -> Any:
        """What the layers have of each image beside its cells."""
        ...

    def through(
        self,
        x: Tensor,
        by: Any,
        angles: Tensor | None,
        places: Tensor,
        keep: Keep | None = None,
    ) -> Tensor:
        """All layers; places: (n,) numbers of codes, row by row -> (n, emb_dim), at these alone."""
        ...


class AdaptiveNet(Layered, Protocol):
    """What a pass asks of a maskgit.Transformer."""

    net: Any  # x-transformers' TransformerWrapper, with adaptive norms
    dropout: float
    training: bool
    flash: bool
    flash_elsewhere: bool

    def rotate(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Queries or keys by their angles."""
        ...


class Modulation(NamedTuple):
    """What the adaptive norms make of each image's condition, in every cell and round."""

    before: Tensor  # by what the input of each block is multiplied, and of the last norm:
    # (batch, blocks + 1, dim)
    after: Tensor  # by what the output of each block is multiplied: (batch, blocks, dim)

    def of(self, images: Tensor) -> Modulation:
        """That of some images."""
        return Modulation(self.before[images], self.after[images])


def modulation(net: AdaptiveNet, condition: Tensor) -> Modulation:
    """condition: (batch, dim); by one product for all blocks."""
    layers = net.net.attn_layers
    inner = [*(norms[0].to_gamma for norms, _, _ in layers.layers), layers.final_norm.to_gamma]
    outer = [block.to_gamma for _, block, _ in layers.layers]
    weight = torch.cat([layer.weight for layer in (*inner, *outer)])
    found = linear_rows(condition, weight).unflatten(1, (len(inner) + len(outer), -1))
    before, after = found.split([len(inner), len(outer)], 1)
    bias = torch.stack([layer.bias for layer in outer])
    return Modulation(before + 1, (after + bias.to(after.dtype)).sigmoid())


def embed_at(
    net: AdaptiveNet,
    x: Tensor,
    by: Modulation,
    angles: Tensor | None,
    places: Tensor,
    keep: Keep | None = None,
) -> Tensor:
    """All layers of a Transformer. x: (batch, m, dim), places: (n,) numbers of cells in them, row
    by row -> (n, dim).

    The same as x-transformers' own pass at these cells, up to rounding: what follows the last
    attention is done for them alone. angles: rotary ones, (1 or batch, m, dim_head).
    """
    layers, image = net.net.attn_layers, places // x.shape[1]
    last = max(number for number, layer in enumerate(layers.layers) if hasattr(layer[1].fn, "to_q"))
    is_packed = False

    def for_cells(value: Tensor) -> Tensor:
        """What is the same for all cells of an image, (batch, dim).

        As an embedding, since the gradient of plain indexing is summed in an order that varies, and
        in value's dtype.
        """
        return F.embedding(image, value.float()).to(value.dtype) if is_packed else value[:, None]

    for number, (norms, block, _) in enumerate(layers.layers):
        normed = norms[0].ln(x) * for_cells(by.before[:, number])
        if not hasattr(block.fn, "to_q"):
            out = block.fn(normed)
        else:
            only = places if number == last else None
            given = (net, block.fn, number, normed, angles, keep, only)
            around = getattr(block.fn, AROUND, None)
            out = _attention(*given) if around is None else around(_attention, *given)
            if only is not None:
                x, is_packed = x.flatten(0, 1).index_select(0, places), True
        x = x + out * for_cells(by.after[:, number])
    return layers.final_norm.ln(x) * for_cells(by.before[:, -1])  # type: ignore[no-any-return]


def through(
    net: Layered,
    x: Tensor,
    by: OfImages,
    angles: Tensor | None,
    places: Tensor,
    keep: Keep | None = None,
) -> Tensor:
    """The net's own."""
    return net.through(x, by, angles, places, keep)


def compiled_layers() -> Callable[..., Tensor]:
    """`through`, compiled once for any batch and any number of places."""
    compiled = torch.compile(through)

    def layers_at(
        net: Layered, x: Tensor, by: OfImages, angles: Tensor | None, places: Tensor
    ) -> Tensor:
        for tensor in (x, *by, places):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return compiled(net, x, by, angles, places)

    return layers_at


def _attention(
    net: AdaptiveNet,
    fn: Any,
    layer: int,
    x: Tensor,
    angles: Tensor | None,
    keep: Keep | None,
    only: Tensor | None,
) -> Tensor:
    """(batch, m, dim) -> the same, or (n, dim) of the cells `only` (n,)."""
    q, k, v = fn.to_q, fn.to_k, fn.to_v
    if x.device.type == "cpu":
        q, k, v = q(x), k(x), v(x)
    else:  # one product: an accelerator is then better used
        q, k, v = F.linear(x, torch.cat((q.weight, k.weight, v.weight))).chunk(3, -1)
    q, k, v = fn.split_q_heads(q), fn.split_k_heads(k), fn.split_v_heads(v)
    if angles is not None:
        q, k = net.rotate(q, angles), net.rotate(k, angles)
    if keep is not None:
        k, v = keep(layer, k, v)
    dropout = net.dropout if net.training else 0.0
    if net.flash if x.device.type == "cpu" else net.flash_elsewhere:
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        shares = (
            (q @ (k * q.shape[-1] ** -0.5).transpose(-1, -2))
            .softmax(-1, dtype=torch.float32)
            .to(v.dtype)
        )
        out = (F.dropout(shares, dropout) if dropout else shares) @ v
    out = fn.merge_heads(out)
    if only is not None:
        out = out.flatten(0, 1).index_select(0, only)
    return fn.to_out(out)  # type: ignore[no-any-return]


EVEN = 8
"""Cells are run in multiples of this: with remainders, attention varies in its last bits."""


class Passes:
    """Embeddings by a net, round after round; every `refresh`-th pass is whole.

    For one sampling only: the weights, and what stands in a condition, must not change.
    """

    def __init__(self, net: Layered, refresh: int) -> None:
        self.net, self.refresh = net, refresh
        self.by: tuple[Condition | None, OfImages] | None = None  # with the condition it is of
        self.passes, self.size = 0, 0  # how many were made, and the codes of an image
        self.codes: Tensor | None = None  # (batch, cells) of the last pass
        # layer -> keys, values: (batch, heads, cells, dim_head)
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def embed_at(self, codes: Tensor, condition: Condition | None, cells: Tensor) -> Tensor:
        """codes: (batch, h, w), cells: bool, as codes -> (cells.sum(), dim) in row-major order."""
        rows, number = self.rows_at(codes, condition, cells)
        return rows if number is None else rows[number]

    def rows_at(
        self,
        codes: Tensor,
        condition: Condition | None,
        cells: Tensor,
        known: Known | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """What differs in that, and which of these rows is each cell's: (cells.sum(),), or none if
        they are as asked.

        A whole pass, too, if the batch is of another size than the last one (guidance begins or
        ends). The factors of adaptive norms are computed anew only for another condition.
        """
        flat = codes.flatten(1)
        x, vectors, angles = self.net.inputs(codes, condition)
        if self.by is None or self.by[0] is not condition or _batch(self.by[1]) != len(codes):
            self.by = condition, self.net.by(vectors)
        by = self.by[1]
        before, self.codes = self.codes, flat.clone()
        is_whole = before is None or before.shape != flat.shape or self.passes % self.refresh == 0
        self.passes, self.size = self.passes + 1, flat.shape[1]
        total = None if known is None else known.total
        if self.passes == 1 and (alike := first_alike(codes, condition, known)) is not None:
            return self._alike_once(x, by, angles, places_of(cells, total), alike)
        if before is None or is_whole:
            return self._whole(x, by, angles, places_of(cells, total)), None
        return self._some_at(x, by, angles, cells.flatten(1), flat != before, known), None

    def _alike_once(
        self, x: Tensor, by: OfImages, angles: Tensor | None, places: Tensor, alike: Distinct
    ) -> tuple[Tensor, Tensor]:
        """A whole pass where many images are equal, as at the start: each runs once, whole."""
        first, of_row = (upload(part, x.device) for part in alike)
        size = self.size
        every = torch.arange(len(first) * size, device=x.device)
        found = self._whole(x[first], by.of(first), angles, every)
        self.kept = {layer: (k[of_row], v[of_row]) for layer, (k, v) in self.kept.items()}
        return found, of_row[places // size] * size + places % size

    def _whole(self, x: Tensor, by: OfImages, angles: Tensor | None, places: Tensor) -> Tensor:
        """A pass over all cells; as a graph, if none of its keys and values are kept."""
        run = getattr(self.net, "layers_at", through)
        if self.refresh > 1:
            return self.net.through(x, by, angles, places, self._keep)
        graphs = graphs_of(self.net, x.device)
        if graphs is None:
            return run(self.net, x, by, angles, places)  # type: ignore[no-any-return]
        turned = [] if angles is None else [angles]

        def work(x: Tensor, places: Tensor, *rest: Tensor) -> Tensor:
            angle, of_images = (None, rest) if angles is None else (rest[0], rest[1:])
            return run(self.net, x, type(by)(*of_images), angle, places)  # type: ignore[no-any-return]

        return graphs(work, run, next(self.net.parameters()), [x, places, *turned, *by])

    def _some_at(
        self,
        x: Tensor,
        by: OfImages,
        angles: Tensor | None,
        asked: Tensor,
        changed: Tensor,
        known: Known | None,
    ) -> Tensor:
        """A pass over the cells of codes that are asked for, or changed: bool (batch, codes)."""
        wanted = (asked | changed).unflatten(1, (x.shape[1], -1)).any(2)
        most = known.most if known is not None else None
        most = int(wanted.sum(1).max()) if most is None else most
        if not most:
            return x.new_empty(0, self.net.emb_dim)
        most = min(x.shape[1], -(-most // EVEN) * EVEN)
        places = wanted.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        first = next(iter(self.kept.values()))[0]
        batch, heads, total = first.shape[:3]
        of_head = torch.arange(batch * heads, device=first.device).view(batch, heads, 1) * total
        rows = (of_head + places[:, None]).flatten()  # of all keys, one after the other
        # rows with fewer cells are filled up with others, which stay as they were
        own = wanted.gather(1, places)[:, None].expand(-1, heads, -1).reshape(-1, 1)

        def keep(layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            for old, side in zip(self.kept[layer], (k, v), strict=True):
                flat = old.view(-1, old.shape[-1])
                new = torch.where(own, side.reshape(-1, flat.shape[1]), flat.index_select(0, rows))
                flat.index_copy_(0, rows, new)
            return self.kept[layer]

        taken = x.gather(1, places[:, :, None].expand(-1, -1, x.shape[-1]))
        turns = None if angles is None else angles[0][places]
        of_cells = asked.unflatten(1, (x.shape[1], -1))
        here = of_cells.gather(1, places[:, :, None].expand(-1, -1, of_cells.shape[2]))
        chosen = places_of(here, None if known is None else known.total)
        return self.net.through(taken, by, turns, chosen, keep)

    def _keep(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.kept[layer] = (k.contiguous(), v.contiguous())
        return self.kept[layer]


def _batch(by: OfImages) -> int:
    """Of how many images it is."""
    return len(next(iter(by)))
