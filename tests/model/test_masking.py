import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.model.masking import (
    corrupt,
    count_hidden,
    hide_exactly,
    hide_independently,
    stratified_times,
)
from maskgit.schedules import SCHEDULES, get_schedule


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_times_are_spread_evenly():
    t = stratified_times(8, draws())
    assert torch.allclose(t.diff(), torch.full((7,), 1 / 8)) and t.min() >= 0 and t.max() < 1
    many = torch.stack([stratified_times(4, draws(seed)) for seed in range(2000)])
    assert abs(many.mean().item() - 0.5) < 0.01


@given(
    st.integers(1, 12),
    st.integers(1, 7),
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(2, 300),
    st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_exactly_the_wanted_cells_are_hidden(height, width, schedule, num_codes, seed):
    codes = torch.randint(num_codes, (3, height, width), generator=draws(seed))
    num_hidden = count_hidden(
        get_schedule(schedule), stratified_times(3, draws(seed)), height * width
    )
    hidden = hide_exactly(codes, num_hidden, draws(seed))
    inputs = corrupt(codes, hidden, mask_id=num_codes, num_codes=num_codes).inputs
    assert torch.equal(hidden.flatten(1).sum(1), num_hidden) and (num_hidden >= 1).all()
    assert torch.equal(inputs == num_codes, hidden)
    assert torch.equal(inputs[~hidden], codes[~hidden])


def test_every_cell_is_as_likely_to_be_hidden():
    codes = torch.zeros(20_000, 2, 3, dtype=torch.int64)
    hidden = hide_exactly(codes, torch.full((20_000,), 2), draws())
    assert torch.allclose(
        hidden.double().mean(0), torch.full((2, 3), 1 / 3, dtype=torch.float64), atol=0.015
    )


def test_no_replace_and_random_codes_have_their_shares_and_never_insert_the_mask():
    codes = torch.zeros(500, 10, 10, dtype=torch.int64)
    options = {"mask_id": 50, "num_codes": 50, "no_replace_prob": 0.2, "random_token_prob": 0.25}
    hidden = hide_exactly(codes, torch.full((500,), 80), draws())
    inputs = corrupt(codes, hidden, **options, generator=draws(1)).inputs
    seen = inputs[hidden]
    assert (seen == 50).double().mean().item() == pytest.approx(0.8 * 0.75, abs=0.01)
    assert ((seen > 0) & (seen < 50)).double().mean().item() == pytest.approx(
        0.8 * 0.25 * 49 / 50, abs=0.01
    )
    assert torch.equal(inputs[~hidden], codes[~hidden])


def test_independent_hiding_has_the_share_of_each_image_and_no_fixed_count():
    codes = torch.zeros(3, 200, 100, dtype=torch.int64)
    share = torch.tensor([0.0, 0.3, 1.0])
    hidden = hide_independently(codes, share, draws()).double()
    assert torch.allclose(hidden.mean((1, 2)), share.double(), atol=0.015)
    counts = (
        hide_independently(torch.zeros(5000, 1, 12), torch.full((5000,), 0.5), draws())
        .sum((1, 2))
        .double()
    )
    assert counts.var().item() == pytest.approx(3.0, rel=0.1)  # binomial
