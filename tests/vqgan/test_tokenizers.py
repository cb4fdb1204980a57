"""The table of tokenizers, and files of each."""

import pytest
import torch

from vqgan.registry import options_of
from vqgan.tokenizers import TOKENIZERS, load_hashed, load_tokenizer, make_tokenizer

SMALL = {
    "tokenizer": {"image_size": 16, "widths": [8, 8], "num_blocks": 0, "latent_dim": 4},
    "vqgan": {
        "image_size": 16, "width": 8, "multipliers": [1, 2], "latent_dim": 4, "norm_groups": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_a_file_is_loaded_as_what_it_says_it_is(name, tmp_path):
    torch.manual_seed(0)
    made = make_tokenizer({"name": name, **SMALL[name]}).eval()
    made.save(tmp_path / "tokenizer.safetensors")
    for found in (load_tokenizer(tmp_path), load_hashed(tmp_path / "tokenizer.safetensors")[0]):
        assert type(found) is type(made) and not found.training
        images = torch.rand(1, made.channels, 16, 16) * 2 - 1
        codes = found.encode(images)
        assert torch.equal(codes, made.encode(images))
        assert found.decode(codes).shape == images.shape


def test_without_a_name_it_is_ours():
    assert type(make_tokenizer(SMALL["tokenizer"])) is TOKENIZERS["tokenizer"]
    with pytest.raises(ValueError, match="unknown tokenizer 'vqgn', did you mean 'vqgan'"):
        make_tokenizer({"name": "vqgn"})
    assert "image_size" in options_of(TOKENIZERS["vqgan"])
