"""The parts of published convolutional tokenizers, by closed formulas."""

import pytest
import torch
import torch.nn.functional as F

from vqgan.published.convolutional import AttnBlock, Down, PublishedVQGAN, ResBlock, UnitRange, Up


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("source", ["input", "output"])
def test_the_shortcut_sees_the_input_or_what_is_added_to_it(source):
    block, x = ResBlock(4, 6, 2, shortcut=source), images(2, 4, 5, 3)
    first = F.silu(F.group_norm(x, 2, block.norm1.weight, block.norm1.bias, 1e-6))
    second = F.silu(F.group_norm(block.conv1(first), 2, block.norm2.weight, block.norm2.bias, 1e-6))
    hidden = block.conv2(second)
    wanted = hidden + block.nin_shortcut(x if source == "input" else hidden)
    assert torch.allclose(block(x), wanted, atol=1e-6)


def test_attention_is_of_one_head_over_all_positions():
    block, x = AttnBlock(4, 2), images(1, 4, 3, 2)
    normed = F.group_norm(x, 2, eps=1e-6)
    q, k, v = (layer(normed).flatten(2)[0] for layer in (block.q, block.k, block.v))  # (4, 6)
    mixed = v @ (q.T @ k / 2).softmax(1).T
    wanted = x + block.proj_out(mixed.view(1, 4, 3, 2))
    assert torch.allclose(block(x), wanted, atol=1e-6)


@pytest.mark.parametrize(("how", "first"), [("corner", 0), ("even", -1)])
def test_half_the_size_by_a_convolution_that_starts_in_the_corner_or_before_it(how, first):
    down, x = Down(1, how), torch.arange(16.0).view(1, 1, 4, 4)
    torch.nn.init.zeros_(down.conv.bias)
    down.conv.weight.data = torch.zeros(1, 1, 3, 3)
    down.conv.weight.data[..., 0, 0] = 1  # the first of the nine
    rows = [
        0 if y < 0 or x < 0 else 4 * y + x for y in (first, first + 2) for x in (first, first + 2)
    ]
    assert down(x).flatten().tolist() == rows


def test_half_the_size_by_means():
    x = images(1, 2, 4, 6)
    assert torch.equal(Down(2, "pool")(x), F.avg_pool2d(x, 2)) and not list(
        Down(2, "pool").parameters()
    )


def test_twice_the_size_repeats_and_convolves():
    up, x = Up(2), images(1, 2, 2, 3)
    wanted = up.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(up(x), wanted)


def test_unit_range_is_there_and_back():
    x = images(1, 3, 2, 2)
    assert torch.allclose(UnitRange(False)(UnitRange(True)(x)), x, atol=1e-6)
    assert UnitRange(True)(torch.tensor([-1.0, 1.0])).tolist() == [0, 1]


def test_attention_is_where_it_is_asked_for_and_levels_may_start_wide():
    net = PublishedVQGAN(
        image_size=16, width=4, multipliers=[2, 1, 3], norm_groups=2, latent_dim=4, code_dim=3,
        codebook_size=8, attention=[1], decoder_attention=[0, 2],
    )  # fmt: skip
    assert [len(level.attn) for level in net.encoder.net.level] == [0, 2, 0]
    assert [len(level.attn) for level in net.decoder.net.level] == [3, 0, 3]
    assert net.encoder.net.conv_in.out_channels == 4
    codes = net.encode(images(1, 3, 8, 12))
    assert codes.shape == (1, 2, 3) and net.decode(codes).shape == (1, 3, 8, 12)
