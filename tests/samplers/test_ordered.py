from fractions import Fraction
from itertools import pairwise

import pytest

from maskgit.samplers.ordered import halton_order
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, run


def test_the_order_of_halton():
    """The first points of bases 2 and 3 on an 8 x 9 grid: (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8,
    4/9)."""
    assert halton_order(8, 9)[:4] == (4 * 9 + 3, 2 * 9 + 6, 6 * 9 + 1, 1 * 9 + 4)
    for height, width in ((1, 1), (3, 5), (64, 64), (96, 96)):
        assert sorted(halton_order(height, width)) == list(range(height * width))


def test_in_a_row_every_gap_is_halved_in_turn():
    """Codes without places are a row: van der Corput's order, of base 2."""
    assert halton_order(1, 8) == (4, 2, 6, 1, 5, 3, 7, 0)
    assert sorted(halton_order(1, 37)) == list(range(37))


def mirrored(n, base):
    """The digits behind the point, as an exact fraction."""
    digits = []
    while n:
        n, digit = divmod(n, base)
        digits.append(digit)
    return sum((Fraction(digit, base ** (k + 1)) for k, digit in enumerate(digits)), Fraction())


@pytest.mark.parametrize(("height", "width"), [(8, 9), (27, 27), (6, 81), (16, 16), (7, 7)])
def test_points_on_the_border_of_a_cell_belong_to_it(height, width):
    """Thirds have no floating-point number: 1/9 of 9 cells came out below 1."""
    points = [(mirrored(n, 2), mirrored(n, 3)) for n in range(1, 4000)]
    cells = [int(y * height) * width + int(x * width) for y, x in points]
    order = list(dict.fromkeys(cells))
    assert halton_order(height, width)[: len(order)] == tuple(order)


def test_halton_draws_in_its_order_from_a_place_of_each_image():
    steps = GRID[0] * GRID[1]

    def order_of(seed, **options):
        rounds = run(
            "halton",
            Flat(GRID, NUM_CODES),
            empty(1),
            [seed],
            steps=steps,
            schedule="linear",
            **options,
        )
        known = [(codes[0] != NUM_CODES).flatten() for codes in rounds]
        first = [known[0], *(b & ~a for a, b in pairwise(known))]
        return [int(cells.nonzero()) for cells in first]

    plain = order_of(0, shift=False)
    assert plain == list(halton_order(*GRID))
    starts = set()
    for seed in range(20):
        moved = order_of(seed)
        y, x = divmod(moved[0], GRID[1])
        y0, x0 = divmod(plain[0], GRID[1])
        turned = [
            ((p // GRID[1] + y - y0) % GRID[0]) * GRID[1] + (p % GRID[1] + x - x0) % GRID[1]
            for p in plain
        ]
        assert moved == turned, "the same order, turned around the grid"
        starts.add(moved[0])
    assert len(starts) > 8


class Counting(Flat):
    """Counts the cells that it is asked for."""

    cells = 0

    def logits(self, codes, cells, r):
        self.cells += int(cells.sum())
        return super().logits(codes, cells, r)


@pytest.mark.parametrize("name", ["random", "halton", "ancestral"])
def test_only_the_cells_of_the_round_are_asked_for(name):
    """The head runs on what is written, and on nothing else."""
    predictor = Counting(GRID, NUM_CODES)
    run(name, predictor, empty(2), [0, 1], steps=6)
    assert predictor.cells == 48
