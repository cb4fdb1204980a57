import pytest
import torch

from vqgan.quantizers.quantized import check_range


def test_a_code_outside_the_codebook_is_named():
    check_range(torch.tensor([0, 15]), 16)
    check_range(torch.empty(0, dtype=torch.int64), 16)
    for bad in (-1, 16):
        with pytest.raises(ValueError, match=rf"codes must lie in \[0, 16\), found .*{bad}"):
            check_range(torch.tensor([3, bad]), 16)
