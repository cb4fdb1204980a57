"""BertBlock against torch's own encoder layer."""

import pytest
import torch
from torch import nn

from maskgit.model.published.bert import BertBlock, check_heads
from maskgit.model.published.net import PublishedNet


@pytest.mark.parametrize("prenorm", [False, True])
def test_it_is_an_encoder_layer_of_torch(prenorm):
    torch.manual_seed(0)
    block = BertBlock(16, 32, eps=1e-3, prenorm=prenorm)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    options = {"activation": "gelu", "layer_norm_eps": 1e-3, "batch_first": True}
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, norm_first=prenorm, **options).eval()
    names = {
        "to_qkv": "self_attn.in_proj_",
        "to_out": "self_attn.out_proj.",
        "w1": "linear1.",
        "w2": "linear2.",
        "norm1": "norm1.",
        "norm2": "norm2.",
    }
    theirs = {
        names[name.split(".")[0]] + name.split(".")[1]: value
        for name, value in block.state_dict().items()
    }
    layer.load_state_dict(theirs)
    net = PublishedNet(
        {"codebook_size": 8, "num_classes": 1, "grid": (1, 5), "heads": 4}, emb_dim=16
    )
    x = torch.randn(2, 5, 16)
    found = block.feed(block.mix(x, (), lambda *qkv: net._attend(None, 0, 5, *qkv)), ())
    torch.testing.assert_close(found, layer(x))


def test_the_gelu_may_be_by_a_tanh():
    block = BertBlock(2, 2, eps=1e-5, prenorm=True, tanh=True)
    block.norm2, block.w1, block.w2 = nn.Identity(), nn.Identity(), nn.Identity()
    x = torch.tensor([[-1.0, 2.0]])
    tanh = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(block.feed(x, ()), x + tanh)


def test_heads_must_divide_the_width():
    check_heads(48, 4)
    with pytest.raises(ValueError, match="width of 48 does not divide into 5 heads"):
        check_heads(48, 5)
