"""Devices without float64, such as Apple's: made up of fake tensors, which compute nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskgit import SAMPLERS
from maskgit.model import chunked
from maskgit.model.likelihood import bits
from maskgit.samplers import engine, remasking
from maskgit.schedules import mdlm_weight
from maskgit.training.averages import Averages
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
def device(monkeypatch):
    """One without float64."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True), NoFloat64():
        yield torch.device("cuda")


def test_the_widest_float_is_found_out(device):
    assert widest_float(device) == torch.float32
    assert widest_float(torch.device("cpu")) == torch.float64
    assert mdlm_weight(lambda t: 1 - t, torch.zeros(3, device=device)).dtype == torch.float32
    with pytest.raises(TypeError):
        torch.zeros(3, device=device).double()


def test_sums_of_values_and_of_bits_are_made_elsewhere(device, monkeypatch):
    averages = Averages(SimpleNamespace(num_processes=1, device=device), "psnr")
    averages.add("psnr", torch.zeros(3, device=device), 3)
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.0)  # fake tensors have no values
    assert averages.means()["psnr"] == 0.0
    model = SimpleNamespace(
        mask_id=16,
        self_condition=lambda *_: None,
        embed=lambda inputs, last, places: inputs.flatten()[places],
    )
    monkeypatch.setattr(chunked, "is_chunked", lambda *_: False)  # their number is a symbol here
    model.to_logits = lambda cells: cells[:, None].float().expand(-1, 16)
    codes = torch.zeros(3, 4, 4, dtype=torch.int64, device=device)
    found = bits(model, codes, {})
    assert found.shape == (3,) and found.dtype == torch.float32 and found.device.type == "cuda"


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_without_it(device, monkeypatch, name):
    class Even:
        mask_id, device = 16, torch.device("cuda")

        def logits(self, codes, cells, r):
            return torch.zeros(int(cells.numel()), 16, device=self.device)

        def scores(self, codes, r):
            return torch.zeros(codes.shape, device=self.device)

        self_scores = scores

    monkeypatch.setattr(engine, "hidden_counts", lambda codes, mask_id: np.full(2, 16))
    monkeypatch.setattr(engine, "share_at", lambda schedule, r: 1 - r)
    monkeypatch.setattr(remasking, "share_at", lambda schedule, r: 1 - r)
    monkeypatch.setattr(engine, "places_of", lambda cells, total: torch.arange(32, device="cuda"))
    *_, codes = SAMPLERS[name](Even(), torch.full((2, 4, 4), 16), [0, 1], steps=3)
    assert codes.device.type == "cuda"
