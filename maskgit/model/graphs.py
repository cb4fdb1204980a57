"""Graphs: whole passes of a net, recorded once for each shape and then replayed by the accelerator.

A round of a sampler launches hundreds of small kernels; a replay is one launch. A shape that is met
once costs nothing: it is recorded when it comes again, as in the second batch of many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

MOST = 128
"""Graphs of one net that are kept."""

Work = Callable[..., Tensor]


class Recorded(NamedTuple):
    """A graph with the tensors that it reads and writes."""

    graph: Any  # torch.cuda.CUDAGraph
    given: list[Tensor]
    found: Tensor


class Graphs:
    """Of one net, without gradients, as long as its weights stay where they are.

    All share their memory: what a run found is read before the next one.
    """

    def __init__(self) -> None:
        self.met: set[Any] = set()
        self.known: dict[Any, Recorded] = {}
        self.pool: Any = None

    def __call__(self, work: Work, of: Any, weights: Tensor, given: Sequence[Tensor]) -> Tensor:
        """work(*given), which is `of` that, and reads the net's weights; `weights`: one of them."""
        shapes = tuple((tuple(part.shape), part.dtype) for part in given)
        key = (of, weights.data_ptr(), weights.dtype, weights.device, shapes)
        if key not in self.met:
            if len(self.met) >= MOST:
                self.met, self.known = set(), {}
                self.pool = None  # it goes with the last of them
            self.met.add(key)
            return work(*given)
        if key not in self.known:
            self.known[key] = self._record(work, given)
        recorded = self.known[key]
        torch._foreach_copy_(recorded.given, list(given))
        recorded.graph.replay()
        return recorded.found

    def _record(self, work: Work, given: Sequence[Tensor]) -> Recorded:
        graph, kept = torch.cuda.CUDAGraph(), [part.clone() for part in given]
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                found = work(*kept)
            finally:
                graph.capture_end()
        here.wait_stream(aside)
        return Recorded(graph, kept, found)


_off = False


@contextmanager
def without_graphs(off: bool = True) -> Iterator[None]:
    """Inside, nothing is recorded or replayed: what a benchmark compares with."""
    global _off
    before, _off = _off, off
    try:
        yield
    finally:
        _off = before


_of_nets: WeakKeyDictionary[nn.Module, Graphs] = WeakKeyDictionary()


def graphs_of(net: Any, device: torch.device) -> Graphs | None:
    """Those of a net; none where there is nothing to record with, while it trains, and under
    autocast, whose cache of converted weights ends before a recording of them would."""
    can = device.type != "cpu" and torch.cuda.is_available() and not net.training
    if _off or not can or torch.is_grad_enabled() or torch.is_autocast_enabled(device.type):
        return None
    return _of_nets.setdefault(net, Graphs())
