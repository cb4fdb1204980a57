"""What all tokenizers have in common is tested on ours in test_tokenizer.py; here what is meant for
images of another size."""

import pytest
import torch

from vqgan.tokenizer import Tokenizer
from vqgan.tokenizers import load_tokenizer


def test_resized_it_is_the_same_tokenizer_meant_for_other_images(tmp_path):
    torch.manual_seed(0)
    made = Tokenizer(image_size=16, channels=1, widths=(8, 8), num_blocks=0, latent_dim=4).eval()
    other = made.resized(24)
    assert other.grid == (12, 12) and made.grid == (8, 8) and made.config["image_size"] == 16
    other.save(tmp_path / "tokenizer.safetensors")
    images = torch.rand(1, 1, 24, 24) * 2 - 1
    assert torch.equal(load_tokenizer(tmp_path).encode(images), made.encode(images))
    with pytest.raises(ValueError, match="25x25 do not divide"):
        made.resized(25)
