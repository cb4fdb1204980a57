import pytest

from maskgit.benchmark.plan import Plan, row_of, size_of


def test_small_shapes_come_first_and_each_once():
    plan = Plan(cells=(256, 64), params=(25, 5), batch=(8, 1), rounds=(12, 8))
    shapes = plan.shapes(sampling=True)
    assert len(set(shapes)) == len(shapes) == 16
    assert list(map(size_of, shapes)) == sorted(map(size_of, shapes))
    assert {shape.rounds for shape in plan.shapes(sampling=False)} == {0}


def test_a_row_has_rounds_only_where_there_are_some():
    [shape] = Plan(cells=(64,), params=(5,), batch=(2,), rounds=(8,)).shapes(sampling=True)
    row = row_of("sampling", shape, "maskgit", why="x")
    assert row == {"part": "sampling", "cells": 64, "million parameters": 5, "batch": 2, "rounds": 8, "side": "maskgit", "why": "x"}  # fmt: skip
    assert "rounds" not in row_of("training", shape._replace(rounds=0), "maskgit")


@pytest.mark.parametrize(
    ("sizes", "message"), [({"cells": (50,)}, "50 cells"), ({"params": (7,)}, "5 or 25 can be")]
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        Plan(**sizes)
