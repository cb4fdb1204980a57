"""What the parity with TiTok's own code (tests/importing) does not show."""

import torch

from maskgit.model.published.titok_bert import TiTokBert


def test_cells_are_told_apart_by_position_and_the_label_is_one_more_token():
    torch.manual_seed(0)
    net = TiTokBert(
        codebook_size=8, grid=(1, 5), num_classes=3, dim=16, depth=2, heads=2, hidden=24
    )
    net.eval()
    codes = torch.full((2, 1, 5), 8)
    logits = net(codes, torch.tensor([0, 2]))
    assert logits.shape == (2, 1, 5, 8) and not torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0, 0, 0], logits[0, 0, 1], atol=1e-4)
    turned = codes.clone()
    turned[:, 0, 1] = 3
    assert not torch.allclose(net(turned, torch.tensor([0, 2]))[:, 0, 4], logits[:, 0, 4])
    assert net.by(torch.tensor([1, 3])).tokens.shape == (2, 1, 16)
