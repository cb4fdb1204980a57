"""Options of a convolutional tokenizer from its tensors."""

import pytest
import torch

from maskgit.importing.convolutional import groups_of, vqgan_options
from maskgit.importing.system import Sizes
from vqgan.tokenizers import make_tokenizer

OTHERS = [
    {"multipliers": [1, 3], "num_blocks": 1, "decoder_blocks": 1},
    {"multipliers": [1, 2, 2, 4], "num_blocks": 2, "decoder_blocks": 3, "attention": [2, 3]},
    {"code_dim": 5, "bias": False, "shortcut": "output", "middle_attention": True},
    {"attention": [4], "decoder_attention": [3, 4], "last_kernel": 1, "channels": 1},
]


@pytest.mark.parametrize("options", OTHERS)
def test_what_a_net_is_made_of_is_read_off_its_tensors(options):
    small = {"width": 8, "latent_dim": 6, "codebook_size": 20, "norm_groups": 4}
    made = make_tokenizer({"name": "vqgan", **small, **options})
    tensors = made.state_dict()
    own = {"shortcut": options.get("shortcut", "input")}
    found = make_tokenizer(vqgan_options(tensors, Sizes({"norm_groups": 4}), **own))
    assert {k: v.shape for k, v in found.state_dict().items()} == {
        k: v.shape for k, v in tensors.items()
    }
    found.load_state_dict(tensors)
    images = torch.randn(1, made.channels, 16, 32)
    assert torch.equal(found.encode(images), made.encode(images))


def test_groups_that_do_not_divide_are_asked_for():
    assert groups_of(Sizes({}), 128) == 32
    with pytest.raises(ValueError, match=r"8 channels do not divide into 32 groups.*--sizes"):
        groups_of(Sizes({}), 8)
