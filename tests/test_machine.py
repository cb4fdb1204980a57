import time

import pytest
import torch

from maskgit.machine import on_threads, one_thread_each, peak_memory, quicken, seconds_of


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_every_part_is_worked_on_one_thread_in_order():
    seen = []

    def work(part):
        seen.append(torch.get_num_threads())
        return part + 1

    with on_threads(2):
        found = one_thread_each(work, [torch.tensor(i) for i in range(5)])
    assert [int(part) for part in found] == [1, 2, 3, 4, 5] and set(seen) == {1}


def test_time_and_memory_are_measured():
    assert 0.02 <= seconds_of(lambda: time.sleep(0.02)) < 5
    assert peak_memory() > 10


@pytest.mark.parametrize("there", [False, True])
def test_float32_is_quick_where_there_is_cuda(there, monkeypatch):
    """And as it was where there is none: its bits are promised."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        quicken()
        found = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]
    assert found == (("high", True) if there else before) and before == ("highest", False)
