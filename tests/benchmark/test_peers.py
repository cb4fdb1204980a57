import pytest
import torch

from maskgit.benchmark.peers import SIDES, Shape, Side, Way
from maskgit.model.backbones import num_parameters
from tests.benchmark.conftest import CPU


@pytest.mark.parametrize("name", SIDES)
def test_contract_of_every_side(name, tiny_sides):
    """It trains, so that its parameters change, it samples, in both precisions, and its loss is
    positive."""
    for way in SIDES[name].ways_on(CPU):
        side = Side(SIDES[name], tiny_sides, way, CPU)
        assert 0 < side.loss().item() < 20
        before = [p.clone() for p in side.module.parameters()]
        side.train_step()
        assert any(
            not torch.equal(a, b) for a, b in zip(before, side.module.parameters(), strict=True)
        )
        side.sample_batch()


@pytest.mark.slow
@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("params", [5, 25])
def test_sides_are_of_equal_size(name, params):
    """Within 15 % of the wanted number of parameters."""
    side = Side(SIDES[name], Shape(cells=64, params=params, batch=1), Way(False, True), CPU)
    assert num_parameters(side.module) == pytest.approx(params * 1e6, rel=0.15)
