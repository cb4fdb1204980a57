"""The net of Maskgit-pytorch, version 1."""

import torch

from maskgit.model.published.valeoai import ValeoMaskGIT

SHAPE = {"codebook_size": 16, "grid": (2, 3), "num_classes": 3}


def test_each_cell_has_a_bias_of_its_own():
    torch.manual_seed(0)
    net = ValeoMaskGIT(**SHAPE, dim=16, depth=1, heads=2, hidden=32).eval()
    codes = torch.randint(17, (2, 2, 3))
    before = net(codes)
    shift = torch.randn(6, 16)
    with torch.no_grad():
        net.to_logits.bias[0] += shift
    assert torch.allclose(
        net(codes) - before, shift.view(2, 3, 16).expand(2, -1, -1, -1), atol=1e-5
    )


def test_the_class_has_the_last_position():
    torch.manual_seed(0)
    net = ValeoMaskGIT(**SHAPE, dim=16, depth=1, heads=2, hidden=32).eval()
    tokens, factors = net.by(torch.tensor([1, 3]))
    assert torch.equal(tokens[:, 0], net.labels.weight[[1, 3]] + net.positions[6])
    assert factors.shape == (2, 0, 16)
