import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maskgit.samplers import BY_CHANCE, SAMPLERS, engine, ordered, scored
from maskgit.samplers.engine import draw, gumbel, keep_top_k, keep_top_p, num_hidden_after
from maskgit.samplers.ordered import halton_order
from maskgit.schedules import SCHEDULES, get_schedule
from tests.conftest import Flat, all_grids

GRID, NUM_CODES = (4, 6), 16
COUNTED = sorted(set(SAMPLERS) - BY_CHANCE)
VARIANTS = {
    "remask, cap": {"kind": "cap", "eta": 0.3},
    "remask, conf": {"kind": "conf"},
    "remask, loop": {"refine": (0.3, 0.8), "eta": 0.2},
}
EVERY = [*SAMPLERS, *VARIANTS]
CHANCE = BY_CHANCE | set(VARIANTS)


def run(name, predictor, codes, seeds, **options):
    sampler = SAMPLERS[name.partition(",")[0]]
    return list(sampler(predictor, codes, seeds, **VARIANTS.get(name, {}), **options))


def empty(batch, grid=GRID, mask_id=NUM_CODES):
    return torch.full((batch, *grid), mask_id)


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
    rounds = run(name, Flat(GRID, NUM_CODES), empty(2), [0, 1], steps=9)
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
    run(name, predictor, codes, [0], steps=50)
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
    codes = run(name, oracle, torch.full((n, 2, 2), 3), range(n), steps=1)[-1].flatten(1)
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


@pytest.fixture
def quick_noise(monkeypatch):
    """Noise of one generator instead of one for each image, which takes most of the time of many
    small grids."""
    draws = torch.Generator().manual_seed(0)

    def uniforms(seeds, round_, shape):
        return torch.rand(len(seeds), *shape, generator=draws, dtype=torch.float64)

    for place in (engine, ordered):
        monkeypatch.setattr(place, "uniforms", uniforms)


def counts_of(oracle, codes):
    """How often each of the 81 grids was drawn, and how often it should have been."""
    expected = len(codes) * torch.tensor(
        [oracle.joint[tuple(grid)] for grid in all_grids(3, 4).tolist()]
    )
    return torch.bincount(
        (codes.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81
    ), expected


def is_the_joint(oracle, codes):
    """Chi-square of the grids at p = 0.001, all that are expected less than five times being one of
    them."""
    counts, expected = counts_of(oracle, codes)
    rare = expected < 5
    counts = torch.cat((counts[~rare], counts[rare].sum()[None]))
    expected = torch.cat((expected[~rare], expected[rare].sum()[None]))
    return ((counts - expected) ** 2 / expected).sum() < stats.chi2.ppf(0.999, len(counts) - 1)


ONE_CELL_A_ROUND = {
    "random": {"steps": 4},
    "halton": {"steps": 4},
    "confidence": {
        "steps": 4,
        "schedule": "linear",
        "choice_temperature": 1e6,
    },  # that is a random order
}


@pytest.mark.parametrize("name", ONE_CELL_A_ROUND)
def test_one_cell_a_round_draws_the_joint_exactly(name, oracle, quick_noise):
    n = 100_000
    assert is_the_joint(
        oracle, run(name, oracle, torch.full((n, 2, 2), 3), range(n), **ONE_CELL_A_ROUND[name])[-1]
    )


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
    alone, again = (
        torch.ones(n, dtype=torch.bool),
        torch.zeros(n),
    )  # again: how often cells were hidden again
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


class Scored(Flat):
    """Critics that find cell i more suspect the larger i is."""

    def scores(self, codes, r):
        return torch.arange(codes[0].numel()).view(codes.shape[1:]).expand(codes.shape).double()

    self_scores = scores


def test_confidence_keeps_what_is_surest():
    """Without noise in the choice, the cells that stay are those drawn with the highest
    probability."""
    predictor = Flat(GRID, NUM_CODES)
    first = run("confidence", predictor, empty(3), range(3), steps=4, choice_temperature=0.0)[0]
    drawn = run("confidence", predictor, empty(3), range(3), steps=1)[0]  # the same draws, all kept
    sure = (
        predictor.table.log_softmax(-1).expand(3, -1, -1, -1).gather(-1, drawn[..., None])[..., 0]
    )
    for row, values, codes in zip(first, sure, drawn, strict=True):
        kept = row != NUM_CODES
        assert torch.equal(row[kept], codes[kept]) and values[kept].min() >= values[~kept].max()


def test_noise_in_the_choice_falls_to_nothing_unless_it_is_a_ramp(monkeypatch):
    seen = []
    monkeypatch.setattr(
        scored, "ramp_at", lambda value, r: seen.append((value, r)) or engine.ramp_at(value, r)
    )
    for choice in (4.5, (4.5, 2.0)):
        run("confidence", Flat(GRID, NUM_CODES), empty(1), [0], steps=4, choice_temperature=choice)
    run("critic", Scored(GRID, NUM_CODES), empty(1), [0], steps=4, noise_scale=2.0)
    assert [value for value, _ in seen] == [(4.5, 0.0)] * 3 + [(4.5, 2.0)] * 3 + [(2.0, 0.0)] * 3
    assert [r for _, r in seen] == [0.25, 0.5, 0.75] * 3


@pytest.mark.parametrize("name", ["critic", "self_critic"])
def test_a_critic_hides_the_most_suspect_cells_also_those_kept_before(name):
    given = empty(1)
    given[0, 3, 5] = 2  # the most suspect of all, but known from the start
    last = given
    for codes in run(name, Scored(GRID, NUM_CODES), given, [0], steps=6, noise_scale=0.0):
        hidden = (codes == NUM_CODES).flatten().nonzero()[:, 0].tolist()
        assert hidden == list(range(23 - len(hidden), 23))
        last = codes
    assert last[0, 3, 5] == 2


@pytest.mark.parametrize("name", ["critic", "self_critic"])
def test_known_cells_are_hidden_again_unless_they_are_kept(name):
    for keep_known in (False, True):
        rounds = run(
            name,
            Flat(GRID, NUM_CODES),
            empty(4),
            range(4),
            steps=8,
            noise_scale=50.0,
            keep_known=keep_known,
        )
        again = [((a != NUM_CODES) & (b == NUM_CODES)).any().item() for a, b in pairwise(rounds)]
        assert any(again) != keep_known


def test_the_order_of_halton():
    """The first points of bases 2 and 3 on an 8 x 9 grid: (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8,
    4/9)."""
    assert halton_order(8, 9)[:4] == (4 * 9 + 3, 2 * 9 + 6, 6 * 9 + 1, 1 * 9 + 4)
    for height, width in ((1, 1), (3, 5), (64, 64), (96, 96)):
        assert sorted(halton_order(height, width)) == list(range(height * width))


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


def test_a_temperature_may_rise_or_fall():
    grids = [
        run("random", Flat(GRID, NUM_CODES), empty(50), range(50), steps=24, temperature=ramp)[-1]
        for ramp in ((0.0, 0.0), (0.0, 3.0), 0.0)
    ]
    assert torch.equal(grids[0], grids[2]) and not torch.equal(grids[0], grids[1])


@given(st.integers(1, 40), st.integers(1, 84), st.sampled_from(sorted(SCHEDULES)))
@settings(max_examples=200, deadline=None)
def test_counts_follow_the_schedule(steps, num_cells, name):
    gamma = get_schedule(name)
    left = num_cells
    for k, (r, hidden) in enumerate(num_hidden_after(gamma, steps, torch.tensor([num_cells]))):
        wanted = int(num_cells * gamma(torch.tensor(r, dtype=torch.float64)).item() + 1e-9)
        last = k == steps - 1
        assert hidden.item() == (0 if last else max(0, min(max(wanted, 1), left - 1)))
        left = hidden.item()
    assert left == 0


def test_the_cosine_schedule_of_maskgit():
    """256 cells in 8 rounds, as Google's code reveals them."""
    hidden = [n.item() for _, n in num_hidden_after(get_schedule("cosine"), 8, torch.tensor([256]))]
    assert hidden == [251, 236, 212, 181, 142, 97, 49, 0]


def test_draw_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log().expand(4, 3)
    drawn = draw(logits, torch.tensor([0.0, 0.19, 0.21, 0.999], dtype=torch.float64))
    assert drawn.codes.tolist() == [0, 0, 1, 2]
    assert drawn.log_probs.exp().tolist() == pytest.approx([0.2, 0.2, 0.5, 0.3])


def test_draw_never_takes_what_was_filtered_out():
    logits = torch.randn(500, 30, generator=torch.Generator().manual_seed(0))
    u = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u[:2] = torch.tensor([0.0, 1 - 2**-53])
    codes = draw(logits, u, top_k=3).codes
    assert (codes[:, None] == logits.topk(3).indices).any(1).all()


def test_draw_reports_the_log_probability_it_drew_with():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    drawn = draw(logits, torch.tensor([0.999]), temperature=0.5, top_k=2)
    assert drawn.log_probs.item() == pytest.approx(
        torch.tensor([2.0, 4.0]).log_softmax(0)[1].item()
    )


def test_temperature_zero_takes_the_most_likely_code():
    assert (
        draw(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([0.01]), temperature=0).codes.item() == 1
    )


WRONG = [
    ("confidence", {"top_k": 0}, "top_k is at least 1"),
    ("random", {"top_p": 1.5}, r"top_p lies in \[0, 1\]"),
    ("halton", {"temperature": (1.0, -0.5)}, "temperature cannot be negative"),
    ("remask", {"eta": 1.5}, r"eta lies in \[0, 1\]"),
    ("remask", {"refine": (0.5, 1.0)}, "refine is a part"),
    ("remask", {"refine": (0.0, 0.5)}, "refine is a part"),
    ("remask", {"refine": (0.2, 0.5), "level": 1.0}, "level lies in"),
    ("confidence", {"choice_temperature": -1.0}, "choice_temperature cannot be negative"),
    ("critic", {"noise_scale": (1.0, -1.0)}, "noise_scale cannot be negative"),
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


def test_top_k_and_top_p_keep_what_they_should():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert keep_top_k(logits, 2).isfinite().tolist() == [[True, True, False, False]]
    assert keep_top_p(logits, 0.7).isfinite().tolist() == [[True, True, False, False]]
    assert keep_top_p(logits, 0.81).isfinite().tolist() == [[True, True, True, False]]
    assert keep_top_p(logits, 0.0).isfinite().tolist() == [[True, False, False, False]]
    assert keep_top_p(logits, 1e-9).isfinite().tolist() == [[True, False, False, False]]


def test_gumbel_noise_has_its_mean_and_no_infinity():
    u = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = gumbel(torch.cat((u, torch.tensor([0.0, 1 - 2**-53]))))
    assert noise.isfinite().all()
    assert noise[:-2].mean().item() == pytest.approx(0.5772, abs=0.012)
