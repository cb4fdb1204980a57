"""TiTok's tokenizers and generators."""

import pytest

from tests.importing.parity import check_generator, check_tokenizer, imported


@pytest.mark.parametrize("system", ["titok_tokenizer", "titok_tokenizer_rgb"])
def test_codes_and_images_are_those_of_its_own_code(system, tmp_path):
    folder = imported("titok", system, tmp_path / "titok")
    tokenizer = check_tokenizer(folder, system, unit_range=True)
    assert tokenizer.codebook_size == 64 and tokenizer.grid[0] == 1


@pytest.mark.parametrize("system", ["titok_imagebert", "titok_uvit"])
def test_logits_are_those_of_its_own_code(system, tmp_path):
    pipeline = check_generator(imported("titok", system, tmp_path / "titok"), system)
    assert pipeline.net.grid == (1, 8)
    with pytest.raises(ValueError, match="maskgit import titok"):
        pipeline.generate([1])
