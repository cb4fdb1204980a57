"""LlamaGen's tokenizers."""

from tests.importing.parity import check_tokenizer, imported


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    folder = imported("llamagen", "llamagen_vq", tmp_path / "llamagen")
    tokenizer = check_tokenizer(folder, "llamagen_vq")
    assert tokenizer.codebook_size == 256 and tokenizer.downscale == 16
