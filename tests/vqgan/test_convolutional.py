"""The blocks of published convolutional tokenizers against their formulas."""

import pytest
import torch
import torch.nn.functional as F

from vqgan.published.convolutional import AttnBlock, Down, PublishedVQGAN, ResBlock


@pytest.mark.parametrize("shortcut", ["input", "output"])
def test_a_block_that_widens_adds_what_its_project_adds(shortcut):
    torch.manual_seed(0)
    block, x = ResBlock(4, 8, 2, shortcut=shortcut), torch.randn(2, 4, 5, 6)

    def norm(layer, x):
        return F.silu(F.group_norm(x, 2, layer.weight, layer.bias, 1e-6))

    hidden = block.conv2(norm(block.norm2, block.conv1(norm(block.norm1, x))))
    added = block.nin_shortcut(x if shortcut == "input" else hidden)
    assert torch.allclose(block(x), hidden + added, atol=1e-6)
    assert ResBlock(4, 4, 2).nin_shortcut is None


def test_attention_is_a_softmax_over_all_positions():
    torch.manual_seed(0)
    block, x = AttnBlock(4, 2), torch.randn(2, 4, 3, 5)
    normed = F.group_norm(x, 2, block.norm.weight, block.norm.bias, 1e-6)
    q, k, v = (layer(normed).flatten(2) for layer in (block.q, block.k, block.v))
    shares = (torch.einsum("bci,bcj->bij", q, k) / 2).softmax(-1)
    found = torch.einsum("bij,bcj->bci", shares, v).view_as(x)
    assert torch.allclose(block(x), x + block.proj_out(found), atol=1e-5)


@pytest.mark.parametrize(("how", "padding"), [("corner", (0, 1, 0, 1)), ("even", (1, 1, 1, 1))])
def test_half_the_size_by_the_padding_of_its_project(how, padding):
    down, x = Down(3, how), torch.randn(1, 3, 6, 8)
    wanted = F.conv2d(F.pad(x, padding), down.conv.weight, down.conv.bias, stride=2)
    assert torch.allclose(down(x), wanted, atol=1e-6) and wanted.shape[2:] == (3, 4)
    assert Down(3, "pool")(x).shape == (1, 3, 3, 4)


def test_images_of_a_net_in_0_to_1_are_ours_in_minus_1_to_1():
    small = {"width": 4, "multipliers": (1, 2), "num_blocks": 1, "decoder_blocks": 1}
    torch.manual_seed(0)
    ours = PublishedVQGAN(**small, latent_dim=4, codebook_size=9, norm_groups=2, unit_range=True)
    theirs = PublishedVQGAN(**small, latent_dim=4, codebook_size=9, norm_groups=2)
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 8, 8)
    codes = ours.eval().encode(images * 2 - 1)
    assert torch.equal(codes, theirs.eval().encode(images))
    raw = theirs.decoder(theirs.quantizer.lookup(codes))
    assert torch.allclose(ours.decode(codes), (raw * 2 - 1).clamp(-1, 1), atol=1e-6)
