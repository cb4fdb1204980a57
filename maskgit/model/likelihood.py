"""How likely grids are to a masked-code model: an upper bound, estimated without bias."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from maskgit.machine import upload
from maskgit.model.chunked import cross_entropy
from maskgit.model.masking import hide_exactly, stratified_times
from maskgit.samplers.predictor import places_of
from vqgan.devices import widest_float


class Predicting(Protocol):
    """What the estimate asks of a NonAutoregressiveWrapper."""

    mask_id: int

    def self_condition(
        self, inputs: Tensor, seeing: Tensor | None, conditioning: Mapping[str, Any]
    ) -> Tensor | None:
        """What a pass is conditioned on, beside the conditioning."""
        ...

    def embed(
        self,
        inputs: Tensor,
        last: Tensor | None = None,
        cells: Tensor | None = None,
        **conditioning: Any,
    ) -> Tensor:
        """Embeddings of some cells."""
        ...

    def to_logits(self, embeddings: Tensor) -> Tensor:
        """(cells, dim) -> float32 (cells, num_codes)."""
        ...


@torch.no_grad()
def bits(
    model: Predicting,
    codes: Tensor,
    conditioning: Mapping[str, Any],
    generator: torch.Generator | None = None,
) -> Tensor:
    """An unbiased estimate, for each image, of an upper bound on -log2 p(codes) / N: (batch,)
    float64 (or the device's widest), bits a code.

    The bound is MDLM's (arXiv:2406.07524, eq. 10): w(t) times the summed cross-entropy of
    independently hidden cells, over N. With the linear schedule the number m of hidden cells is
    uniform in 1 .. N after weighting, so that it equals the mean over m of the mean cross-entropy
    of m cells hidden at random (the likelihood over random orders of Uria et al., arXiv:1310.1757):
    the same expectation, whatever schedule was trained, and less variance. m is stratified over the
    batch, in random order. A perfect model's value is the entropy of the data. Set eval mode.
    """
    num_cells, device = codes[0].numel(), codes.device
    t = stratified_times(len(codes), generator).double()
    t = t[torch.rand(len(t), generator=generator, device=t.device).argsort()]
    num_hidden = 1 + (t * num_cells).floor().long().clamp(max=num_cells - 1)
    unknown = torch.empty(codes.shape, device=t.device)
    hidden = hide_exactly(unknown, num_hidden, generator)
    places, num_hidden = upload(places_of(hidden), device), upload(num_hidden, device)
    inputs = codes.masked_fill(upload(hidden, device), model.mask_id)
    last = model.self_condition(inputs, None, conditioning)
    embedded = model.embed(inputs, last, places, **conditioning)
    truth = codes.flatten().index_select(0, places)
    losses, _ = cross_entropy(model.to_logits, embedded, truth, model.mask_id)
    losses = losses.to(widest_float(device))
    sums = torch.zeros(len(codes), dtype=losses.dtype, device=device)
    sums.index_add_(0, places // num_cells, losses)
    return sums / num_hidden / math.log(2)
