import math
from itertools import pairwise

import pytest
import torch

from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, is_the_joint, run


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ancestral", {}),
        ("remask", {"kind": "cap", "eta": 0.05}),
        ("remask", {"kind": "rescale", "eta": 0.02}),
        ("remask", {"kind": "cap", "eta": 0.02, "refine": (0.3, 0.8)}),
    ],
    ids=str,
)
def test_coins_one_cell_a_round_draw_the_joint_exactly(name, options, oracle, quick_noise):
    """Coins do not know the codes, so that those images in which no round drew two cells follow the
    joint.

    Hiding cells of a finished grid and drawing them again leaves it as it is: the joint is
    stationary.
    """
    n = 20_000
    before = torch.full((n, 2, 2), 3)
    # again: how often cells were hidden again
    alone, again = (torch.ones(n, dtype=torch.bool), torch.zeros(n))
    for codes in run(name, oracle, before, range(n), steps=40, schedule="linear", **options):
        alone &= ((before == 3) & (codes != 3)).sum((1, 2)) <= 1
        again += ((before != 3) & (codes == 3)).sum((1, 2))
        before = codes
    assert alone.double().mean() > 0.3 and (again.mean() > 0.4) == (name == "remask")
    assert is_the_joint(oracle, before[alone])
    if name == "remask":
        assert (alone & (again > 0)).sum() > 1000 and is_the_joint(
            oracle, before[alone & (again > 0)]
        )


def test_remasking_hides_as_often_as_it_says():
    """ReMDM-rescale with eta 1 hides sigma_max; the known share still follows the schedule."""
    n, steps = 400, 10
    rounds = run(
        "remask", Flat(GRID, NUM_CODES), empty(n), range(n), steps=steps, schedule="linear", eta=1.0
    )
    for k, codes in enumerate(rounds):
        share = (codes != NUM_CODES).double().mean().item()
        assert share == pytest.approx((k + 1) / steps, abs=0.02)
    again = [
        ((a != NUM_CODES) & (b == NUM_CODES)).double().sum().item() for a, b in pairwise(rounds)
    ]
    known = [(codes != NUM_CODES).double().sum().item() for codes in rounds]
    for k in range(1, steps - 1):  # from k / T to (k + 1) / T
        sigma = min(1, (1 - (k + 1) / steps) / (k / steps))
        assert again[k - 1] / known[k - 1] == pytest.approx(sigma, abs=0.03)


def test_refining_holds_the_known_share():
    n = 300
    options = {
        "steps": 20,
        "schedule": "linear",
        "eta": 0.3,
        "kind": "cap",
        "refine": (0.25, 0.75),
        "level": 0.8,
    }
    rounds = run("remask", Flat(GRID, NUM_CODES), empty(n), range(n), **options)
    shares = [(codes != NUM_CODES).double().mean().item() for codes in rounds]
    assert all(share == pytest.approx(0.8, abs=0.03) for share in shares[4:15]) and shares[-1] == 1
    assert (rounds[5] != rounds[14]).double().mean() > 0.3, "cells are drawn anew meanwhile"


def test_before_and_after_refining_no_known_cell_is_hidden():
    n, steps = 200, 20
    options = {
        "steps": steps,
        "schedule": "linear",
        "eta": 0.3,
        "kind": "cap",
        "refine": (0.4, 0.7),
        "level": 0.6,
    }
    rounds = run("remask", Flat(GRID, NUM_CODES), empty(n), range(n), **options)
    again = [((a != NUM_CODES) & (b == NUM_CODES)).any().item() for a, b in pairwise(rounds)]
    assert [k + 1 for k, hidden in enumerate(again) if hidden] == list(range(8, 14)), (
        "the rounds that end in (.4, .7]"
    )


def test_conf_hides_the_unlikely_cells_more_often():
    """Of cells drawn with probability .999 and about .5, by exp(-p), once many are known."""

    class Two:
        mask_id = 2

        def logits(self, codes, cells, r):
            sure = (
                torch.arange(codes[0].numel()).view(codes.shape[1:]).expand_as(codes)[cells] % 2
                == 0
            )
            p = torch.where(sure, 0.999, 0.5)
            return torch.stack((p, 1 - p), -1).log()

    n, steps = 1000, 8
    rounds = run(
        "remask",
        Two(),
        torch.full((n, 8, 8), 2),
        range(n),
        steps=steps,
        schedule="linear",
        kind="conf",
    )[3:]
    hidden = sum(((a != 2) & (b == 2)).double().sum(0).flatten() for a, b in pairwise(rounds))
    known = sum((a != 2).double().sum(0).flatten() for a in rounds[:-1])
    often = hidden / known
    assert (often[1::2].mean() / often[::2].mean()).item() == pytest.approx(
        math.exp(0.499), rel=0.06
    )


@pytest.mark.parametrize("kind", ["cap", "rescale"])
def test_a_single_cell_is_drawn_again_as_often_as_one_of_many(kind):
    """The chance of a hidden cell does not depend on whether the image has known cells of its
    own."""
    n, steps, eta = 4000, 10, 0.4
    codes = torch.zeros(n, 1, 2, dtype=torch.int64)
    codes[:, 0, 0] = 5
    rounds = run(
        "remask",
        Flat((1, 2), 5),
        codes,
        range(n),
        steps=steps,
        schedule="linear",
        eta=eta,
        kind=kind,
    )
    for k, found in enumerate(rounds):
        assert (found != 5).all(2).double().mean().item() == pytest.approx(
            (k + 1) / steps, abs=0.04
        )
