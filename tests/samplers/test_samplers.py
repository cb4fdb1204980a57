from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.samplers import BY_CHANCE, SAMPLERS
from maskgit.schedules import SCHEDULES
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, VARIANTS, counts_of, empty, is_the_joint, run

COUNTED = sorted(set(SAMPLERS) - BY_CHANCE)


EVERY = [*SAMPLERS, *VARIANTS]


CHANCE = BY_CHANCE | set(VARIANTS)


EXACT = {"tempered": {"by_entropy": (1.0, 1.0)}, "bounded": {"bound": 0.0}}
"""As much as the schedule says, and from the net's own distribution."""


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("name", EVERY)
def test_every_cell_is_filled_with_a_code(name, steps):
    rounds = run(name, Flat(GRID, NUM_CODES), empty(2), [0, 1], steps=steps)
    assert rounds[-1].min() >= 0 and rounds[-1].max() < NUM_CODES
    assert len(rounds) == (steps if name in CHANCE else min(steps, 24))


@pytest.mark.parametrize("name", EVERY)
def test_the_last_round_fills_all_whatever_the_schedule_leaves(name):
    rounds = run(
        name, Flat(GRID, NUM_CODES), empty(8), range(8), steps=4, schedule=lambda t: 1 - 0.9 * t
    )
    assert rounds[-1].max() < NUM_CODES


@pytest.mark.parametrize("name", COUNTED)
def test_every_round_reveals_and_all_but_the_last_leave_some(name):
    options = {"steps": 9} | EXACT.get(name, {})
    rounds = run(name, Flat(GRID, NUM_CODES), empty(2), [0, 1], **options)
    hidden = [(codes == NUM_CODES).sum((1, 2)).tolist() for codes in rounds]
    assert all(
        a > b
        for before, after in pairwise([[24, 24], *hidden])
        for a, b in zip(before, after, strict=True)
    )
    assert hidden[-1] == [0, 0] and 0 not in hidden[-2]


@pytest.mark.parametrize("name", EVERY)
def test_given_cells_stay(name):
    codes = empty(2)
    codes[0, 1:3], codes[1, :, 2] = 7, 3
    known = codes != NUM_CODES
    for after in run(name, Flat(GRID, NUM_CODES), codes, [0, 1], steps=5):
        assert torch.equal(after[known], codes[known])
    assert (codes[~known] == NUM_CODES).all(), "the argument itself is not written to"


@pytest.mark.parametrize("name", EVERY)
def test_images_with_different_holes_are_filled_together(name):
    codes = empty(3)
    codes[0], codes[1, 0, 1:] = 5, 2
    assert (run(name, Flat(GRID, NUM_CODES), codes, [0, 1, 2], steps=6)[-1] < NUM_CODES).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_full_grid_runs_no_network(name):
    predictor = Flat(GRID, NUM_CODES)
    assert run(name, predictor, torch.zeros(1, *GRID, dtype=torch.int64), [0]) == []
    assert predictor.calls == 0


@pytest.mark.parametrize("name", [*COUNTED, "ancestral"])
def test_steps_beyond_the_hidden_cells_run_no_network(name):
    codes = torch.zeros(1, *GRID, dtype=torch.int64)
    codes[0, 0, :3] = NUM_CODES
    predictor = Flat(GRID, NUM_CODES)
    run(name, predictor, codes, [0], steps=50, **EXACT.get(name, {}))
    assert predictor.calls == 3 or (name in BY_CHANCE and predictor.calls < 3)


@pytest.mark.parametrize("name", EVERY)
def test_an_image_depends_on_its_own_seed_only(name):
    predictor = Flat(GRID, NUM_CODES)
    together = run(name, predictor, empty(3), [4, 5, 6], steps=5)[-1]
    alone = run(name, predictor, empty(1), [5], steps=5)[-1]
    reordered = run(name, predictor, empty(3), [6, 5, 4], steps=5)[-1]
    assert torch.equal(together[1:2], alone) and torch.equal(reordered.flip(0), together)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("name", EVERY)
def test_one_round_draws_each_cell_from_its_own_distribution(name, oracle, quick_noise):
    """With one round every cell is drawn from its marginal: chi-square over 9 free numbers in 4
    cells of 3 codes."""
    n = 20_000
    options = {"steps": 1} | EXACT.get(name, {})
    codes = run(name, oracle, torch.full((n, 2, 2), 3), range(n), **options)[-1].flatten(1)
    marginals = oracle.conditional(torch.full((4,), 3))
    counts = torch.stack([(codes == code).sum(0) for code in range(3)], dim=1)
    chi_square = ((counts - n * marginals) ** 2 / (n * marginals)).sum()
    assert chi_square < 26.1  # 8 degrees of freedom, p = 0.001


@given(
    st.sampled_from(EVERY),
    st.tuples(st.integers(1, 12), st.integers(1, 7)),
    st.integers(2, 40),
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 20),
    st.integers(0, 10**6),
)
@settings(max_examples=150, deadline=None)
def test_any_grid_is_filled_with_codes_and_what_is_given_stays(
    name, grid, num_codes, schedule, steps, seed
):
    """1 x 1 to 12 x 7, any number of codes, a batch of one, any share of it given."""
    draws = torch.Generator().manual_seed(seed)
    given_codes = torch.randint(num_codes + 1, (1, *grid), generator=draws)
    known = given_codes != num_codes
    for codes in run(
        name, Flat(grid, num_codes), given_codes, [seed], steps=steps, schedule=schedule
    ):
        assert torch.equal(codes[known], given_codes[known])
        assert codes.min() >= 0 and codes.max() <= num_codes
        final = codes
    assert known.all() or final.max() < num_codes


ONE_CELL_A_ROUND = {
    "random": {"steps": 4},
    "halton": {"steps": 4},
    "tempered": {"steps": 4, **EXACT["tempered"]},
    "moment": {"steps": 4, "schedule": "linear", "choice_temperature": 1e6},
    "bounded": {"steps": 4, "schedule": "linear", **EXACT["bounded"]},
    # that is a random order
    "confidence": {
        "steps": 4,
        "schedule": "linear",
        "choice_temperature": 1e6,
    },
}


@pytest.mark.parametrize("name", ONE_CELL_A_ROUND)
def test_one_cell_a_round_draws_the_joint_exactly(name, oracle, quick_noise):
    n = 100_000
    assert is_the_joint(
        oracle, run(name, oracle, torch.full((n, 2, 2), 3), range(n), **ONE_CELL_A_ROUND[name])[-1]
    )


@pytest.mark.parametrize("name", ["random", "halton", "ancestral", "remask"])
def test_with_more_rounds_the_distribution_comes_nearer(name, oracle, quick_noise):
    """Total variation falls as rounds grow: at first every cell is drawn apart from the others."""
    found = []
    for steps in (1, 2, 4) if name in COUNTED else (1, 4, 32):
        codes = run(
            name,
            oracle,
            torch.full((20_000, 2, 2), 3),
            range(20_000),
            steps=steps,
            schedule="linear",
        )[-1]
        counts, expected = counts_of(oracle, codes)
        found.append(0.5 * (counts - expected).abs().sum().item() / 20_000)
    assert found[0] > found[1] + 0.01 > found[2] + 0.01, found


WRONG = [
    ("confidence", {"top_k": 0}, "top_k is at least 1"),
    ("random", {"top_p": 1.5}, r"top_p lies in \[0, 1\]"),
    ("halton", {"temperature": (1.0, -0.5)}, "temperature is a number of 0 or more"),
    ("remask", {"eta": 1.5}, r"eta lies in \[0, 1\]"),
    ("remask", {"refine": (0.5, 1.0)}, "refine is a part"),
    ("remask", {"refine": (0.0, 0.5)}, "refine is a part"),
    ("remask", {"refine": (0.2, 0.5), "level": 1.0}, "level lies in"),
    ("confidence", {"choice_temperature": -1.0}, "choice_temperature is a number of 0 or more"),
    ("critic", {"noise_scale": (1.0, -1.0)}, "noise_scale is a number of 0 or more"),
    ("ancestral", {"steps": 0}, "steps must be at least 1"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(name, Flat(GRID, NUM_CODES), empty(1), [0], **options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sequences_are_filled_too(name):
    """As x-transformers' nets have them; only Halton's order needs rows and columns."""
    codes = torch.full((2, 12), NUM_CODES)
    if name == "halton":
        with pytest.raises(ValueError, match="take `random` for sequences"):
            run(name, Flat((12,), NUM_CODES), codes, [0, 1], steps=4)
    else:
        assert run(name, Flat((12,), NUM_CODES), codes, [0, 1], steps=4)[-1].max() < NUM_CODES
