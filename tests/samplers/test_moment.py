import pytest
import torch
from scipy import stats

from maskgit.samplers import SAMPLERS
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, run
from tests.samplers.test_ordered import Counting


@pytest.mark.parametrize("choice", [0.5, 4.5])
def test_cells_and_codes_are_drawn_by_powers_of_their_probabilities(choice, quick_noise):
    """The first of four cells: chosen by sum_x p(x)^b, its code drawn by p(x)^b."""
    n, power = 20_000, 1 + 1 / choice
    predictor = Flat((2, 2), 5)
    options = {"steps": 4, "schedule": "linear", "choice_temperature": (choice, choice)}
    first = run("moment", predictor, torch.full((n, 2, 2), 5), range(n), **options)[0].flatten(1)
    weights = predictor.table.softmax(-1).flatten(0, 1) ** power  # (cell, code)
    expected = (n * weights / weights.sum()).flatten()
    cell = (first != 5).int().argmax(1)
    assert ((first != 5).sum(1) == 1).all()
    counts = torch.bincount(cell * 5 + first.gather(1, cell[:, None])[:, 0], minlength=20)
    often = expected > 5
    found = ((counts - expected)[often] ** 2 / expected[often]).sum()
    assert found < stats.chi2.ppf(0.999, int(often.sum()) - 1)


@pytest.mark.parametrize("steps, power", [(1, 1.0), (4, 1.5)])
def test_a_last_cell_is_drawn_by_its_own_probabilities_at_the_end_only(steps, power, quick_noise):
    """One hidden cell in four steps is drawn in the first, at r = 1 / 4."""
    n, predictor = 20_000, Flat((2, 2), 5)
    codes = torch.zeros(n, 2, 2, dtype=torch.int64)
    codes[:, 1, 0] = 5
    options = {"steps": steps, "choice_temperature": (2.0, 2.0)}
    [found] = run("moment", predictor, codes, range(n), **options)
    weights = predictor.table[1, 0].softmax(-1) ** power
    expected = (n * weights / weights.sum()).numpy()
    counts = torch.bincount(found[:, 1, 0], minlength=5).numpy()
    assert stats.chisquare(counts, expected, sum_check=False).pvalue > 0.001


def test_without_noise_the_surest_cell_gets_its_likeliest_code():
    predictor = Flat(GRID, NUM_CODES)
    options = {"steps": 24, "schedule": "linear", "choice_temperature": 0.0}
    first = run("moment", predictor, empty(1), [0], **options)[0].flatten()
    probs = predictor.table.softmax(-1).flatten(0, 1).max(-1)
    surest = int(probs.values.argmax())
    assert (first != NUM_CODES).nonzero().tolist() == [[surest]]
    assert first[surest] == probs.indices[surest]


def test_it_chooses_nearly_as_confidence_does(quick_noise):
    """How often each cell comes first among many: that is what the sampler was derived from."""
    n = 8_000
    options = {"steps": 24, "schedule": "linear", "choice_temperature": (2.0, 2.0)}
    shares = []
    for name in ("moment", "confidence"):
        first = next(SAMPLERS[name](Flat(GRID, NUM_CODES), empty(n), range(n), **options))
        shares.append((first != NUM_CODES).flatten(1).double().mean(0))
    assert 0.5 * (shares[0] - shares[1]).abs().sum() < 0.05


def test_between_whole_rounds_only_chosen_cells_are_asked_for():
    class Cached(Counting):
        def cached(self, refresh):
            return self

    predictor, asked = Cached(GRID, NUM_CODES), []
    options = {"steps": 6, "schedule": "linear", "refresh": 3}
    for _ in SAMPLERS["moment"](predictor, empty(1), [0], **options):
        asked.append(predictor.cells - sum(asked))
    assert asked == [24, 4, 4, 12, 4, 4], "four cells a round; all that are hidden in whole rounds"
