"""The official MaskGIT: its tokenizer."""

import shutil

import pytest

from maskgit.importing import Foreign, import_weights, read_tensors
from maskgit.importing.maskgit_flax import read_tokenizer
from maskgit.importing.system import Sizes
from tests.importing.golden import checkpoint
from tests.importing.parity import check_tokenizer, imported, sizes_of
from vqgan.tokenizers import load_tokenizer

TOKENIZER = "maskgit_flax_tokenizer"


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    folder = imported("maskgit_flax", TOKENIZER, tmp_path)
    tokenizer = check_tokenizer(folder, TOKENIZER, unit_range=True)
    assert tokenizer.codebook_size == 128 and tokenizer.image_size == 256


def test_that_for_512_pixels_is_told_by_its_name(tmp_path):
    path = tmp_path / "tokenizer_imagenet512_checkpoint"
    shutil.copyfile(checkpoint(TOKENIZER), path)
    folder = import_weights("maskgit_flax", path, tmp_path / "out", sizes=sizes_of(TOKENIZER))
    assert load_tokenizer(folder).grid == (32, 32)


def test_blocks_that_fill_no_levels_are_refused():
    found = read_tensors(checkpoint(TOKENIZER))
    tensors = {name: each for name, each in found.tensors.items() if "ResBlock_11" not in name}
    with pytest.raises(ValueError, match="its 11 blocks do not fill 5 levels and the middle"):
        read_tokenizer(Foreign(tensors, *found[1:]), Sizes(sizes_of(TOKENIZER)))
