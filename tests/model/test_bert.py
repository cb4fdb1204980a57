"""What the parity with TiTok's own code (tests/importing) does not show."""

import pytest
import torch
import torch.nn.functional as F

from maskgit.model.published.bert import Bert, PostNormBlock


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_each_half_is_added_and_the_sum_normalised(approximate):
    """Where all tokens are alike, attention gives the values themselves."""
    torch.manual_seed(0)
    block = PostNormBlock(8, 12, eps=1e-3, approximate=approximate).eval()
    x = torch.randn(1, 1, 8).expand(1, 4, 8)

    def normed(x):
        return (x - x.mean(-1, True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-3).sqrt()

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v)

    mixed = normed(x + block.out(block.v(x)))
    wanted = normed(mixed + block.down(F.gelu(block.up(mixed), approximate=approximate)))
    found = block.feed(block.mix(x, (), attend), ())
    assert torch.allclose(found, wanted, atol=1e-6)


def test_cells_are_told_apart_by_position_and_the_label_is_one_more_token():
    torch.manual_seed(0)
    net = Bert(codebook_size=8, grid=(1, 5), num_classes=3, dim=16, depth=2, heads=2, hidden=24)
    net.eval()
    codes = torch.full((2, 1, 5), 8)
    logits = net(codes, torch.tensor([0, 2]))
    assert logits.shape == (2, 1, 5, 8) and not torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0, 0, 0], logits[0, 0, 1], atol=1e-4)
    turned = codes.clone()
    turned[:, 0, 1] = 3
    assert not torch.allclose(net(turned, torch.tensor([0, 2]))[:, 0, 4], logits[:, 0, 4])
    assert net.by(torch.tensor([1, 3])).tokens.shape == (2, 1, 16)
