"""What several tests of this wing share."""

from pathlib import Path

import pytest
import torch

from maskgit.benchmark import peers
from maskgit.benchmark.peers import Shape

CPU = torch.device("cpu")


def pytest_collection_modifyitems(items):
    """The peers' own imports and code warn on these versions; ours may not."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture
def tiny_sides(monkeypatch):
    """All sides at 0.3 million parameters of width 64."""
    monkeypatch.setitem(peers.WIDTHS, 5, 64)
    monkeypatch.setattr(peers, "depth_for", lambda entry, setting: 1)
    return Shape(cells=16, params=5, batch=2, rounds=2)
