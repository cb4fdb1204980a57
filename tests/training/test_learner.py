import math
import signal

import pytest
import torch
from accelerate import Accelerator

from maskgit.model.transformer import Transformer
from maskgit.training.ema import EMA
from maskgit.training.learner import Learner, Outcome, decayed, learning_rate_at
from tests.training.conftest import changed


def test_decay_is_for_matrices_only():
    net = Transformer(
        codebook_size=8, grid=(2, 2), num_classes=2, dim=16, depth=1, heads=2, dim_head=8
    )
    names = {name for name, parameter in net.named_parameters() if parameter in decayed(net)}
    assert all(name.endswith("weight") for name in names) and "net.to_logits.weight" in names
    assert not any("emb" in name for name in names)


def test_the_learning_rate_warms_up_then_falls(tiny_configs):
    config = changed(
        tiny_configs[0], train={"steps": 100, "warmup_steps": 10, "final_share": 0.1}
    ).train
    rates = [learning_rate_at(step, config, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55) and rates[100] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_what_came_of_a_step_is_its_loss_or_what_was_not_finite():
    assert Outcome(torch.tensor([2.0, 1.0, 0.0])).loss == 2
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        _ = Outcome(torch.tensor([math.nan, 1.0, 0.0])).loss
    with pytest.raises(FloatingPointError, match="the gradient is not finite"):
        _ = Outcome(torch.tensor([2.0, math.inf, 0.0])).loss
    assert Outcome(torch.tensor([2.0, 1.0, 0.0])).stop == 0
    assert Outcome(torch.tensor([2.0, 1.0, 7.5])).stop == signal.SIGTERM, "another process heard it"


def test_the_average_is_left_alone_by_a_step_that_an_accelerator_leaves_out():
    module = torch.nn.Linear(2, 2)
    ema = EMA(module)
    ema.update()
    before = ema.module.weight.clone()
    module.weight.data += 1
    ema.update(torch.tensor(False))
    ema.take_back()
    assert torch.equal(ema.module.weight, before) and ema.n_averaged == 1
    other = EMA(module)
    other.load_state_dict(ema.state_dict())
    ema.update(torch.tensor(True))
    other.update()
    assert torch.allclose(ema.module.weight, other.module.weight) and ema.n_averaged == 2


class Layouts(torch.nn.Module):
    """Parameters that lie in memory in every way, and a scalar."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.plain = torch.nn.Conv2d(3, 4, 3)
        self.turned = torch.nn.Parameter(torch.randn(5, 3).T)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def loss(self, x):
        return (self.conv(x) + self.plain(x)).square().mean() * self.scale + self.turned.sum()


def states_of(learner):
    return learner.optimizer.state_dict()["state"].values()


def test_every_state_lies_in_memory_as_its_parameter_does(tiny_configs):
    """A fused AdamW walks through parameter and moments as they lie."""
    train = tiny_configs[0].train
    one, other = (Learner(Layouts(), Accelerator(), train) for _ in range(2))
    one.module.loss(torch.randn(2, 3, 8, 8)).backward()
    one.apply(0)
    as_written = {
        part: {name: value.clone(memory_format=torch.contiguous_format) for name, value in values.items()}
        for part, values in one.state().items()
    }  # fmt: skip
    other.load_state(as_written, "run")
    own = [p for group in other.optimizer.param_groups for p in group["params"]]
    assert len(list(states_of(other))) == len(own) == 6
    for parameter, state, before in zip(own, states_of(other), states_of(one), strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            assert state[key].stride() == parameter.stride()
            assert torch.equal(state[key], before[key])
        assert state["step"] == 1
    for averaged, parameter in zip(
        other.averaged.parameters(), other.module.parameters(), strict=True
    ):
        assert averaged.stride() == parameter.stride()
