import pytest
import torch
from torch import nn

from vqgan.autoencoder import Decoder, Encoder
from vqgan.normalization import GroupNorm, in_place_of


@pytest.fixture
def norms():
    torch.manual_seed(0)
    plain, ours = nn.GroupNorm(4, 16, eps=1e-6), GroupNorm(4, 16, eps=1e-6)
    nn.init.normal_(plain.weight, 1.0), nn.init.normal_(plain.bias)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_it_is_group_norm_in_the_format_and_layout_of_what_it_gets(norms, layout, dtype, error):
    plain, ours = norms
    x = torch.randn(3, 16, 6, 5) * 3 + 1
    given = x.to(dtype).to(memory_format=layout)
    found = in_place_of(ours, given)
    assert found.dtype == dtype and found.is_contiguous(memory_format=layout)
    wanted = plain(given.float())
    assert (found.float() - wanted).norm() < error * wanted.norm()
    assert torch.equal(ours(x), plain(x)), "on a CPU it is torch's own"


def test_its_gradient_is_that_of_group_norm(norms):
    plain, ours = norms
    x = torch.randn(3, 16, 6, 5).to(memory_format=torch.channels_last)
    slope, found = torch.randn_like(x), []
    for norm in (plain, lambda x: in_place_of(ours, x)):
        given = x.clone().requires_grad_()
        module = plain if norm is plain else ours
        found.append(torch.autograd.grad(norm(given), [given, *module.parameters()], slope))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


def test_tokenizers_have_no_other():
    for half in (Encoder, Decoder):
        made = half(3, 4, widths=[16, 32], attention=True)
        kinds = {type(m) for m in made.modules() if isinstance(m, nn.GroupNorm)}
        assert kinds == {GroupNorm}
