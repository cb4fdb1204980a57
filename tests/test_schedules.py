import math

import pytest
import torch

from maskgit.schedules import SCHEDULES, get_schedule

MEANS = {
    "linear": 1 / 2, "cosine": 2 / math.pi, "arccos": 2 / math.pi, "root": 1 / 3, "square": 2 / 3, "cubic": 3 / 4,
    "poly": 2 / 3, "sigmoid": 1 / 2,
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_all_is_hidden_at_first_and_nothing_at_last(name):
    gamma = get_schedule(name)
    ends = gamma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_hidden_share_falls(name):
    values = get_schedule(name)(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (values.diff() < 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_mean_hidden_share_is_the_known_integral(name):
    middles = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    assert get_schedule(name)(middles).mean().item() == pytest.approx(MEANS[name], abs=1e-4)


def test_options_and_callables():
    t = torch.tensor([0.5])
    assert get_schedule({"name": "poly", "power": 3})(t).item() == pytest.approx(0.875)
    assert get_schedule(lambda t: t * 0)(t).item() == 0
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        get_schedule("cosin")
