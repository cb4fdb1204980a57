"""LlamaGen's tokenizers."""

import pytest
import torch

from maskgit.importing import import_weights, read_tensors
from tests.importing.golden import checkpoint
from tests.importing.parity import check_tokenizer, imported, sizes_of
from tests.importing.test_convolutional import llamagen
from vqgan.published.convolutional import PublishedVQGAN
from vqgan.tokenizers import load_tokenizer
from vqgan.weights import without_memory

SYSTEM = "llamagen_vq"


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    folder = imported("llamagen", SYSTEM, tmp_path / "llamagen")
    tokenizer = check_tokenizer(folder, SYSTEM)
    assert tokenizer.codebook_size == 256 and tokenizer.downscale == 16


@pytest.mark.parametrize("parts", [("vq", "vq_ema"), ("vq_ema", "vq", "discriminator"), ("vq",)])
def test_gear_keeps_averages_beside_weights_of_the_same_layout(tmp_path, parts):
    """They are what it recommends to use; the others here are noise."""
    tensors = read_tensors(checkpoint(SYSTEM)).tensors
    others = {name: torch.randn(tensor.shape) for name, tensor in tensors.items()}
    saved = dict.fromkeys(parts, others) | {"opt_vq": {"state": {}}, "steps": 3}
    saved["vq_ema" if "vq_ema" in parts else "vq"] = tensors
    torch.save(saved, tmp_path / "gear-vq.pt")
    import_weights("llamagen", tmp_path / "gear-vq.pt", tmp_path / "out", sizes=sizes_of(SYSTEM))
    check_tokenizer(tmp_path / "out", SYSTEM)


def test_that_of_eight_pixels_a_cell_is_meant_for_256(tmp_path):
    """Of the published widths, whose norms have 32 groups: nothing has to be said."""
    where = {"attention": [3], "decoder_attention": [3], "middle_attention": True}
    options = {"width": 32, "multipliers": [1, 2, 2, 4], "latent_dim": 8, "code_dim": 8, **where}
    made = PublishedVQGAN(codebook_size=64, distance="cosine", **options)
    tensors = llamagen(made.state_dict(), 4)
    torch.save({"model": tensors}, tmp_path / "vq_ds8_c2i.pt")
    import_weights("llamagen", tmp_path / "vq_ds8_c2i.pt", tmp_path / "out")
    found = load_tokenizer(tmp_path / "out")
    assert found.grid == (32, 32) and found.downscale == 8 and found.config == made.config


@pytest.mark.parametrize(("multipliers", "millions"), [([1, 1, 2, 2, 4], 72), ([1, 2, 2, 4], 70)])
def test_published_sizes_have_as_many_parameters_as_their_authors_say(multipliers, millions):
    last = [len(multipliers) - 1]
    with without_memory():
        net = PublishedVQGAN(
            multipliers=multipliers, attention=last, middle_attention=True, code_dim=8,
            codebook_size=16384,
        )  # fmt: skip
    found = sum(parameter.numel() for parameter in net.parameters())
    assert round(found / 1e6) == millions
