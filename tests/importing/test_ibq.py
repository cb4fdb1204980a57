"""IBQ's tokenizers."""

import pytest
import torch
from safetensors.torch import save_file

from maskgit.importing import import_weights, read_tensors
from maskgit.importing.importers import looks_like
from tests.importing.golden import checkpoint, inputs
from tests.importing.parity import check_tokenizer, imported, sizes_of
from vqgan.tokenizers import load_tokenizer


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    tokenizer = check_tokenizer(imported("ibq", "ibq", tmp_path), "ibq")
    assert tokenizer.codebook_size == 128 and tokenizer.image_size == 64


def test_its_averages_tell_it_from_taming(tmp_path):
    """The names are the same, and the codes of one by the other's rule would be wrong."""
    with pytest.raises(ValueError, match="is no file of taming: it looks like ibq"):
        imported("taming", "ibq", tmp_path)


def test_a_file_without_them_may_be_of_either(tmp_path):
    tensors = read_tensors(checkpoint("ibq")).tensors
    plain = {name: each for name, each in tensors.items() if not name.startswith("model_ema.")}
    assert looks_like(plain) == ["taming"]
    save_file(plain, tmp_path / "ibq.safetensors")
    images = inputs("ibq")["images"]
    codes = []
    for name in ("taming", "ibq"):
        folder = tmp_path / name
        import_weights(name, tmp_path / "ibq.safetensors", folder, sizes=sizes_of("ibq"))
        codes.append(load_tokenizer(folder).encode(images))
    assert not torch.equal(*codes)
