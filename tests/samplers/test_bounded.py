from maskgit.samplers.engine import entropy
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, run
from tests.samplers.test_ordered import Counting


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


def test_no_round_draws_fewer_than_the_schedule_wants():
    rounds = run(
        "bounded", Flat(GRID, NUM_CODES), empty(2), [0, 1], steps=4, schedule="linear", bound=0.0
    )
    assert [(codes == NUM_CODES).sum((1, 2)).tolist() for codes in rounds] == [
        [18] * 2,
        [12] * 2,
        [6] * 2,
        [0] * 2,
    ]
