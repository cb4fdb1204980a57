"""What the parity with TiTok's own code (tests/importing) does not show."""

import pytest
import torch

from maskgit.model.published.uvit import UViT

SHAPE = {"codebook_size": 8, "grid": (1, 5), "num_classes": 3}
TINY = {"dim": 16, "heads": 2, "hidden": 24}


def test_the_last_of_the_first_blocks_is_met_first():
    """With blocks that pass on what they get, an output is the sum of what skips add."""
    torch.manual_seed(0)
    net = UViT(**SHAPE, **TINY, depth=4).eval()
    assert [block.keeps for block in net.blocks] == [True, True, False, False, False]
    assert [block.skip is not None for block in net.blocks] == [False] * 3 + [True] * 2
    for number, block in enumerate(net.blocks):
        for layer in (block.to_out, block.w2):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.constant_(layer.bias, 10.0**number / 2)  # a block adds 10^number
        if block.skip is not None:  # the first of these keeps what is kept, the second adds it
            torch.nn.init.zeros_(block.skip.bias)
            left = torch.eye(16) * (number == 4)
            block.skip.weight.data = torch.cat((left, torch.eye(16)), 1)
    x = torch.zeros(1, 5, 16)
    net.norm = torch.nn.Identity()
    with torch.no_grad():
        found = net.through(x, net.by(torch.tensor([0])), None, torch.arange(5))
    # after block 1: 11, which block 3 takes alone: 1011; block 4 adds 1, of block 0, and 10000
    assert torch.equal(found, torch.full((5, 16), 11012.0))


def test_as_many_blocks_before_the_middle_as_after():
    with pytest.raises(ValueError, match="as many blocks before its middle as after, not 3"):
        UViT(**SHAPE, **TINY, depth=3)
