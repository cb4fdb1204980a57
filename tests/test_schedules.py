import math

import pytest
import torch

from maskgit.schedules import END, SCHEDULES, get_schedule, mdlm_weight

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


WEIGHTS = {
    "linear": lambda t: 1 / (1 - t),
    "cosine": lambda t: math.pi / 2 * torch.tan(math.pi * t / 2),
    "arccos": lambda t: 1 / (torch.sqrt(1 - t**2) * torch.acos(t)),
    "root": lambda t: 1 / (2 * (t.sqrt() - t)),
    "square": lambda t: 2 * t / (1 - t**2),
    "cubic": lambda t: 3 * t**2 / (1 - t**3),
    "poly": lambda t: 2 * t / (1 - t**2),
    "sigmoid": lambda t: _sigmoid_weight(t),
}


def _sigmoid_weight(t):
    """-gamma'/gamma of sigma(3 - 6 t) rescaled: 6 s (1 - s) / (s - sigma(-3))."""
    s = torch.sigmoid(3 - 6 * t)
    return 6 * s * (1 - s) / (s - 1 / (1 + math.exp(3)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_mdlm_weight_is_the_closed_formula_and_positive(name):
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    weight = mdlm_weight(get_schedule(name), t)
    assert torch.allclose(weight, WEIGHTS[name](t), rtol=1e-9)
    assert (weight > 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_mdlm_weight_integrates_to_the_schedule(name):
    """The integral of -gamma'/gamma from a to b is log gamma(a) - log gamma(b)."""
    gamma = get_schedule(name)
    middles = 0.1 + 0.8 * (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    ends = gamma(torch.tensor([0.1, 0.9], dtype=torch.float64)).log()
    assert 0.8 * mdlm_weight(gamma, middles).mean().item() == pytest.approx(
        (ends[0] - ends[1]).item(), rel=1e-6
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_mdlm_weight_is_finite_at_the_ends(name):
    ends = mdlm_weight(get_schedule(name), torch.tensor([0.0, 1.0]))
    near = mdlm_weight(get_schedule(name), torch.tensor([END, 1 - END], dtype=torch.float64))
    assert ends.isfinite().all() and torch.allclose(ends, near)
