import pytest
import torch

from maskgit.samplers.engine import entropy
from maskgit.samplers.ordered import at_random
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, run


def test_entropy_in_nats():
    logits = torch.tensor(
        [[0.0, 0.0, 0.0, 0.0], [0.0, -torch.inf, -torch.inf, 0.0], [50.0, 0, 0, 0]]
    )
    assert entropy(logits).tolist() == pytest.approx([1.3863, 0.6931, 0.0], abs=1e-4)


def test_with_no_change_by_entropy_it_is_random():
    found = [
        run(name, Flat(GRID, NUM_CODES), empty(3), range(3), steps=5, **options)[-1]
        for name, options in (("tempered", {"by_entropy": (1.0, 1.0)}), ("random", {}))
    ]
    assert torch.equal(*found)
    assert at_random(Flat(GRID, NUM_CODES), empty(1), [0]).counts is not None


@pytest.mark.parametrize(("sure", "unsure"), [(1.0, 0.2), (0.2, 1.0), (0.0, 0.0)])
def test_each_cell_is_drawn_at_its_own_temperature(sure, unsure, quick_noise):
    """One round over a net that is nearly sure of one cell, and knows nothing of another."""
    predictor, n = Flat((1, 2), 4), 20_000
    predictor.table = torch.tensor([[[4.0, 2.0, 0.0, 0.0], [0.3, 0.2, 0.1, 0.0]]])
    codes = run(
        "tempered",
        predictor,
        torch.full((n, 1, 2), 4),
        range(n),
        steps=1,
        by_entropy=(sure, unsure),
    )[-1]
    share = entropy(predictor.table[0]) / entropy(torch.zeros(4))
    heat = (sure + (unsure - sure) * share).clamp_min(1e-3)
    wanted = (predictor.table[0] / heat[:, None]).softmax(-1)
    for cell in range(2):
        counts = torch.bincount(codes[:, 0, cell], minlength=4) / n
        assert (counts - wanted[cell]).abs().max() < 0.015
