import pytest
import torch

from vqgan.health import code_counts, code_health, psnr, unused_codes


def test_the_health_of_several_codes_a_cell_is_that_of_the_worst():
    """The first depth uses all four codes alike, the second one code only."""
    codes = torch.stack((torch.arange(40) % 4, torch.zeros(40, dtype=torch.int64)), 1).view(
        1, 2, 40
    )
    counts = code_counts(codes, 4, codes_per_cell=2)
    assert counts.tolist() == [[10, 10, 10, 10], [40, 0, 0, 0]]
    assert code_health(counts) == {
        "codes_used": 0.25,
        "perplexity": pytest.approx(1.0),
        "dead_codes": 3.0,
    }
    assert unused_codes(counts, "mend it") == "only 25% of the codes are used: mend it"
    assert unused_codes(code_counts(codes, 4), "mend it") is None


def test_a_warning_comes_from_fewer_cells_than_codes_too():
    codes = torch.arange(20_000) % 500
    assert unused_codes(code_counts(codes, 2**16), "mend it").endswith(
        "of the codes are used: mend it"
    )
    assert unused_codes(code_counts(torch.randint(2**16, (20_000,)), 2**16), "mend it") is None
    assert unused_codes(code_counts(codes[:100], 2**16), "mend it") is None, "too few to tell"


def test_psnr_is_against_the_whole_range():
    """An error of 0.2 on a range of 2 is 20 dB; pixels out of the range are cut to it first."""
    zero, one = torch.zeros(2, 1, 2, 3), torch.ones(1, 1, 2, 3)
    assert psnr(zero + 0.2, zero).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
    assert psnr(one + 5, one).item() == pytest.approx(psnr(one, one).item())
