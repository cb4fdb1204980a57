import pytest
import torch

from maskgit.benchmark.device import doubled, fits, held_memory


def test_batches_double_up_to_the_most():
    assert doubled(32, 512) == [32, 64, 128, 256, 512]
    assert doubled(3, 20) == [3, 6, 12] and doubled(8, 4) == [8]


def test_what_does_not_fit_is_none_and_other_errors_are_raised():
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken():
        raise RuntimeError("broken")

    assert fits(too_large) is None and fits(lambda: 0.5) == 0.5
    with pytest.raises(RuntimeError, match="broken"):
        fits(broken)


def test_a_cpu_has_no_memory_of_an_accelerator():
    with held_memory() as memory:
        pass
    assert memory == [0.0]
