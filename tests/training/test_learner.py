import pytest

from maskgit.model.transformer import Transformer
from maskgit.training.learner import decayed, learning_rate_at
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
