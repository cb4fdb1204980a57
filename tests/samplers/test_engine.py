import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.samplers.engine import draw, gumbel, keep_top_k, keep_top_p, num_hidden_after
from maskgit.schedules import SCHEDULES, get_schedule
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, run


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
    for k, (r, hidden) in enumerate(num_hidden_after(gamma, steps, np.array([num_cells]))):
        wanted = int(num_cells * gamma(torch.tensor(r, dtype=torch.float64)).item() + 1e-9)
        last = k == steps - 1
        assert hidden.item() == (0 if last else max(0, min(max(wanted, 1), left - 1)))
        left = hidden.item()
    assert left == 0


def test_the_cosine_schedule_of_maskgit():
    """256 cells in 8 rounds, as Google's code reveals them."""
    hidden = [n.item() for _, n in num_hidden_after(get_schedule("cosine"), 8, np.array([256]))]
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
