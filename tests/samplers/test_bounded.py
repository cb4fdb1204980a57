import torch

from maskgit.samplers.engine import entropy
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, is_the_joint, run
from tests.samplers.test_ordered import Counting


def test_with_a_bound_of_nothing_the_joint_is_drawn_exactly(oracle, quick_noise):
    n = 100_000
    options = {"steps": 4, "bound": 0.0}
    assert is_the_joint(
        oracle, run("bounded", oracle, torch.full((n, 2, 2), 3), range(n), **options)[-1]
    )


def test_a_round_draws_the_surest_cells_whose_entropies_fit():
    """All but the largest of them stay within the bound, and one more would not."""
    predictor = Flat(GRID, NUM_CODES)
    entropies = entropy(predictor.table.flatten(0, 1))
    last = empty(1).flatten()
    for codes in run("bounded", predictor, empty(1), [0], steps=24, bound=3.0):
        hidden, now = last == NUM_CODES, codes.flatten() != NUM_CODES
        drawn, left = entropies[hidden & now], entropies[hidden & ~now]
        if len(drawn):
            assert drawn.sum() - drawn.max() <= 3
        if len(left):
            assert drawn.max() <= left.min() and drawn.sum() > 3
        last = codes.flatten()
    assert last.max() < NUM_CODES


def test_a_sure_net_needs_few_calls_and_an_unsure_one_many():
    calls = []
    for sharpness in (20.0, 0.1):
        predictor = Counting(GRID, NUM_CODES)
        predictor.table = predictor.table * sharpness
        run("bounded", predictor, empty(2), [0, 1], steps=30, bound=3.0)
        calls.append(predictor.calls)
    assert calls[0] <= 3 and calls[1] >= 10
    few = Counting(GRID, NUM_CODES)
    run("bounded", few, empty(2), [0, 1], steps=4, bound=0.0)
    assert few.calls == 4, "the last round draws all that is left"
