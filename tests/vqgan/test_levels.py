import pytest
import torch

from vqgan.quantizers.levels import FSQ


def test_a_code_is_the_number_of_its_levels():
    fsq = FSQ(4, levels=(4, 3))
    found = fsq(torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)))
    assert found.codes.shape == (2, 3, 5) and found.codes.max() < 12 == fsq.codebook_size
    assert torch.allclose(fsq.lookup(found.codes), found.latents, atol=1e-5)


def test_more_codes_than_memory_holds_are_refused():
    with pytest.raises(ValueError, match="codes, 4194304 at most"):
        FSQ(4, levels=(64,) * 4)


def test_it_is_built_on_the_meta_device():
    with torch.device("meta"):
        assert FSQ(4, levels=(4, 4)).codebook_size == 16
