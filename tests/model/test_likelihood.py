import math
import warnings

import torch

from maskgit.model.wrapper import NonAutoregressiveWrapper
from tests.conftest import OracleNet
from tests.model.conftest import draws, theirs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
from tests.model.conftest import draw_joint, ours


def test_bits_of_an_oracle_are_the_entropy(oracle):
    """The bound is tight for a net that knows the conditionals, and no perturbed net gets below
    it."""
    codes = draw_joint(oracle, 40_000)
    entropy = torch.special.entr(oracle.joint).sum().item() / math.log(2) / 4
    for noise in (0.0, 0.3, 1.0):
        wrapper = NonAutoregressiveWrapper(OracleNet(oracle, noise), mask_id=3).eval()
        found = wrapper.bits(codes, generator=draws(1))
        error = found.std().item() / math.sqrt(len(found))
        if noise == 0:
            assert abs(found.mean().item() - entropy) < 4 * error and error < 0.01
        else:
            assert found.mean().item() > entropy + 4 * error


def test_bits_never_count_the_mask_token_and_fit_any_net():
    wrapper = NonAutoregressiveWrapper(theirs(logits_dim=17), mask_id=16).eval()
    codes = torch.randint(16, (5, 24), generator=draws())
    found = wrapper.bits(codes, generator=draws())
    assert found.shape == (5,) and found.dtype == torch.float64
    with torch.no_grad():
        wrapper.net.to_logits.bias = torch.nn.Parameter(
            torch.zeros(17).index_fill(0, torch.tensor(16), 50.0)
        )
    assert torch.allclose(found, wrapper.bits(codes, generator=draws()), atol=1e-4)
    same = ours().eval()
    labels = torch.tensor([0, 1, 2])
    few = torch.randint(16, (3, 4, 6), generator=draws())
    assert same.bits(few, condition=labels, generator=draws()).isfinite().all()
