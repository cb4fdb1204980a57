import json

import pytest
import torch
from torch import nn

from maskgit.config.loading import to_dict
from maskgit.training.ema import EMA
from tests.conftest import by_processes, repo
from vqgan.quantizers import QUANTIZERS


def test_the_average_warms_up_to_its_decay_and_buffers_are_copied():
    """After n updates min(decay, (1 + n) / (10 + n)) of the average stays; the first update
    copies."""
    module = nn.BatchNorm1d(1)
    ema = EMA(module, decay=0.24)
    wanted = 0.0
    for n, value in enumerate((1.0, 2.0, 5.0, -3.0)):
        nn.init.constant_(module.weight, value)
        module.running_mean.fill_(10 * value)
        ema.update()
        kept = 0.0 if n == 0 else min(0.24, (1 + n) / (10 + n))
        wanted = kept * wanted + (1 - kept) * value
        assert ema.module.weight.item() == pytest.approx(wanted)
        assert ema.module.running_mean.item() == 10 * value
    assert kept == 0.24 and not ema.module.training and not ema.module.weight.requires_grad
    assert set(ema.state_dict()) >= {"n_averaged", "module.weight"} and torch.is_tensor(
        ema.n_averaged
    )


def test_buffers_that_were_replaced_are_still_followed():
    """As by `module.to`, which accelerate's `prepare` calls."""
    module = nn.BatchNorm1d(1)
    ema = EMA(module)
    module.running_mean = torch.full((1,), 3.0)
    ema.update()
    assert ema.module.running_mean.item() == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_launched_training_exports_what_it_trained(tiny_configs, tmp_path, processes):
    """With every quantizer: a launch of one process moves modules as one of several does."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(tiny_configs[0])))
    out = by_processes(processes, repo() / "tests" / "training" / "averages_driver.py", path)
    different = json.loads(out.splitlines()[-1])
    assert different == {name: [] for name in QUANTIZERS}
