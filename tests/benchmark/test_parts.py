import math

import pytest

from maskgit.benchmark import (
    inputs,
    parts,
)
from maskgit.benchmark.parts import PARTS
from maskgit.benchmark.plan import Plan


@pytest.mark.slow
@pytest.mark.parametrize("part", [name for name in PARTS if name not in ("training", "sampling")])
def test_parts_without_peers(part, tiny_sides, monkeypatch):
    for place in (parts, inputs):
        monkeypatch.setattr(place, "NUM_PICTURES", 64)
    rows = list(PARTS[part](Plan(cells=(64,), params=(5,), batch=(2,), seconds=0.0)))
    assert len(rows) >= 2
    for row in rows:
        speed = next(value for key, value in row.items() if key.endswith("/s"))
        assert 0 < speed.low <= speed.median <= speed.high < math.inf
