"""The net of the official MaskGIT."""

import pytest
import torch

from maskgit.model.conditioned import Conditioned
from maskgit.model.published.official import OfficialMaskGIT
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.samplers.guidance import Guided

SHAPE = {"codebook_size": 16, "grid": (2, 3), "num_classes": 3}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return OfficialMaskGIT(**SHAPE, dim=16, depth=1, heads=2, hidden=32).eval()


def test_the_class_has_the_first_position(net):
    tokens, factors = net.by(torch.tensor([1, 2]))
    assert torch.equal(tokens[:, 0], net.labels.weight[[1, 2]] + net.positions[0])
    assert factors.shape == (2, 0, 16)


def test_guidance_asks_for_no_label_for_none_where_its_scale_is_one(net):
    model = Conditioned(NonAutoregressiveWrapper(net, mask_id=16), 2, {})
    labels, codes = torch.tensor([0, 2]), torch.full((2, 2, 3), 16)
    found = Guided(model, labels).logits(codes, codes == 16, 0.5)
    torch.testing.assert_close(found.view(2, 2, 3, 16), net(codes, labels))
    with pytest.raises(ValueError, match="guidance at scale 1"):
        Guided(model, labels, scale=2.0)


def test_training_says_that_no_label_can_be_dropped(net):
    model = NonAutoregressiveWrapper(net, mask_id=16, condition_dropout=0.5)
    codes, labels = torch.zeros(8, 2, 3, dtype=torch.int64), torch.zeros(8, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"loss\.condition_dropout=0"):
        model(codes, condition=labels)
    model.condition_dropout = 0.0
    assert model(codes, condition=labels)[0].isfinite()
