"""Without an accelerator: a recording is the work on tensors of its own, run again by a replay."""

from types import SimpleNamespace

import torch

from maskgit.model import graphs
from maskgit.model.graphs import Graphs, Recorded, graphs_of


class Replayed(Graphs):
    recorded = 0

    def _record(self, work, given):
        self.recorded += 1
        kept = [part.clone() for part in given]
        found = work(*kept)
        return Recorded(SimpleNamespace(replay=lambda: found.copy_(work(*kept))), kept, found)


def test_a_shape_is_recorded_when_it_comes_again_and_replayed_from_then_on():
    weights, calls = torch.ones(2), []

    def work(x, y):
        calls.append(len(x))
        return x * weights.sum() + y

    runs = Replayed()

    def run(number, rows):
        x, y = torch.full((rows, 3), float(number)), torch.full((rows, 3), 100.0)
        return runs(work, work, weights, [x, y])

    for number, rows in enumerate((4, 5, 4, 5, 4, 4)):
        assert (run(number, rows) == 2 * number + 100).all()
    assert runs.recorded == 2 and len(runs.known) == 2
    weights += 1  # in place: the recording reads what stands there now
    assert (run(7, 4) == 4 * 7 + 100).all() and runs.recorded == 2
    weights = torch.ones(2, dtype=torch.float64)  # elsewhere: it is met anew
    assert (run(7, 4) == 2 * 7 + 100).all() and runs.recorded == 2


def test_there_are_not_more_than_a_few(monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 3)
    runs, weights = Replayed(), torch.ones(1)
    for rows in range(1, 9):
        for _ in range(2):
            runs(lambda x: x + weights, "sum", weights, [torch.zeros(rows)])
    assert 0 < len(runs.known) <= 3


def test_there_are_none_on_the_cpu_and_in_training():
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        assert graphs_of(net.eval(), torch.device("cpu")) is None


def test_there_are_none_under_autocast(monkeypatch):
    """A recording would read converted weights that are gone when autocast ends."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    net, device = torch.nn.Linear(2, 2).eval(), torch.device("cuda")
    with torch.no_grad():
        assert graphs_of(net, device) is not None
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
        assert graphs_of(net, device) is None
