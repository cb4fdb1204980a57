"""MaskGIT's VQGAN in PyTorch."""

from tests.importing.parity import check_tokenizer, imported


def test_codes_and_images_are_those_of_its_own_code(tmp_path):
    folder = imported("maskgit_vqgan", "maskgit_vqgan", tmp_path)
    tokenizer = check_tokenizer(folder, "maskgit_vqgan", unit_range=True)
    assert tokenizer.codebook_size == 128 and tokenizer.image_size == 256
