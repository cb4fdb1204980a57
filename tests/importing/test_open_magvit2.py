"""Open-MAGVIT2's tokenizers."""

from tests.importing.parity import check_tokenizer, imported


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    folder = imported("open_magvit2", "open_magvit2", tmp_path)
    tokenizer = check_tokenizer(folder, "open_magvit2")
    assert tokenizer.codebook_size == 512 and tokenizer.image_size == 64
