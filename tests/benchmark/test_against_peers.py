import pytest

from maskgit.benchmark import (
    against_peers,
)
from maskgit.benchmark.parts import PARTS
from maskgit.benchmark.peers import SIDES, Entry
from maskgit.benchmark.plan import Plan


@pytest.mark.parametrize("at", ["the start", "the whole shape"])
def test_a_side_that_cannot_run_is_said_so(at, tiny_sides, monkeypatch):
    def broken(setting, depth):
        if at == "the start" or setting.shape.batch > 1:
            raise ImportError("no module named muse")
        return SIDES["x-transformers"].build(setting, depth)

    monkeypatch.setattr(against_peers, "TRIAL", 1)  # trials have a batch of one
    monkeypatch.setitem(SIDES, "muse-maskgit-pytorch", Entry(broken))
    plan = Plan(cells=(16,), params=(5,), batch=(2,), rounds=(2,), seconds=0.0, memory=False)
    rows = list(PARTS["sampling"](plan))
    assert [row["why not"] for row in rows if "why not" in row] == [
        "ImportError: no module named muse"
    ]
    assert len(rows) == len(SIDES)


def test_what_would_take_too_long_is_left_out_and_said_so(tiny_sides):
    plan = Plan(cells=(16,), params=(5,), batch=(2, 4), rounds=(2,), longest=0.01)
    rows = list(PARTS["sampling"](plan))
    assert len(rows) == 2 and all("left out" in row["why not"] for row in rows)
