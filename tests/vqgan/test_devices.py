"""Devices without float64, such as Apple's: made up of tensors that hold nothing."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskgit.model.likelihood import bits
from maskgit.schedules import mdlm_weight
from maskgit.training.averages import Averages
from vqgan import devices
from vqgan.devices import widest_float


class NoFloat64(TorchDispatchMode):
    """Whatever is no CPU refuses float64, as MPS does."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        found = op(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            is_wide = isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64
            if is_wide and leaf.device.type != "cpu":
                raise TypeError("Cannot convert a tensor to float64 dtype")
        return found


@pytest.fixture
def narrow(monkeypatch):
    """Devices have no float64."""
    monkeypatch.setattr(devices, "FLOAT32_AT_MOST", True)
    with NoFloat64():
        yield


@pytest.mark.usefixtures("narrow")
def test_the_widest_float_is_known():
    there = torch.device("meta")
    assert widest_float(there) == torch.float32
    assert widest_float(torch.device("cpu")) == torch.float64
    assert mdlm_weight(lambda t: 1 - t, torch.zeros(3, device=there)).dtype == torch.float32
    with pytest.raises(TypeError):
        torch.zeros(3, device=there).double()


@pytest.mark.usefixtures("narrow")
def test_bits_are_summed_in_what_there_is():
    model = SimpleNamespace(
        mask_id=16,
        self_condition=lambda *_: None,
        embed=lambda inputs, last, places: inputs.flatten()[places],
        to_logits=lambda cells: cells[:, None].float().expand(-1, 16),
    )
    found = bits(model, torch.zeros(3, 4, 4, dtype=torch.int64, device="meta"), {})
    assert found.shape == (3,) and found.dtype == torch.float32


def test_means_are_summed_elsewhere(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.0)  # fake tensors have no values
    with FakeTensorMode(allow_non_fake_inputs=True), NoFloat64():
        there = torch.device("cuda")
        averages = Averages(SimpleNamespace(num_processes=1, device=there), "psnr")
        averages.add("psnr", torch.zeros(3, device=there), 3)
        assert averages.means()["psnr"] == 0.0
