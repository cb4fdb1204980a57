"""Open-MAGVIT2's decoder: what its levels make of the code, and how they grow."""

import torch

from vqgan.published.magvit2 import AdaptiveNorm, PublishedMagvit2, Unfold


def test_the_norm_is_scaled_by_the_deviation_and_shifted_by_the_mean_of_the_code():
    norm = AdaptiveNorm(4, 2, 2)
    x = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    code = torch.tensor([[1.0, 1, -1, -1], [1, 1, 1, 1]]).view(1, 2, 2, 2)
    deviation = torch.tensor([(4 / 3 + 1e-6) ** 0.5, 1e-3])  # unbiased, of four cells
    mean = torch.tensor([0.0, 1.0])
    groups = x.view(1, 2, -1)
    normed = (groups - groups.mean(2, keepdim=True)) / (
        groups.var(2, correction=0, keepdim=True) + 1e-6
    ).sqrt()
    wanted = normed.view_as(x) * norm.gamma(deviation)[:, None, None]
    wanted = wanted + norm.beta(mean)[:, None, None]
    assert torch.allclose(norm(x, code), wanted, atol=1e-5)


def test_a_pixel_becomes_four_row_by_row_whole_pixels_side_by_side():
    """Output channel (2 dy + dx) width + c is channel c of the pixel at (dy, dx)."""
    unfold = Unfold(3)
    torch.nn.init.zeros_(unfold.conv.weight)
    unfold.conv.bias.data = torch.arange(12.0)
    found = unfold(torch.zeros(1, 3, 2, 1))
    assert found.shape == (1, 3, 4, 2)
    for dy, dx in torch.cartesian_prod(torch.arange(2), torch.arange(2)).tolist():
        first = 3 * (2 * dy + dx)
        assert found[0, :, dy::2, dx::2].flatten(1).tolist() == [[first + c] * 2 for c in range(3)]


def test_codes_are_as_many_as_its_bits_say():
    net = PublishedMagvit2(
        image_size=16, width=2, multipliers=[2, 1, 3], num_blocks=1, latent_dim=5, norm_groups=2
    )
    assert net.codebook_size == 32 and net.grid == (4, 4)
    codes = net.encode(torch.rand(1, 3, 8, 12) * 2 - 1)
    assert codes.shape == (1, 2, 3) and net.decode(codes).shape == (1, 3, 8, 12)
