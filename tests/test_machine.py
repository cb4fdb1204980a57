import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from maskgit import machine
from maskgit.machine import (
    fair_threads,
    on_threads,
    one_thread_each,
    peak_memory,
    quicken,
    seconds_of,
)
from tests.conftest import repo


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


HELD = """
import os, sys, torch
from maskgit import machine
from maskgit.data.datasets import Batch
from maskgit.data.order import batches

def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

class Decoding:
    def __len__(self):
        return 1
    def __getitems__(self, keys):
        before = held()
        pieces = [torch.ones(2**24) for _ in range(5)]  # of 64 MiB, which glibc maps by default
        del pieces
        return Batch(torch.tensor([held() - before]), torch.zeros(1))

machine.cpu_only = lambda: sys.argv[1] == "cpu"
machine.keep_freed_memory()
for workers in (1, 0):
    [batch] = batches(Decoding(), [[(0, 0)]], workers=workers)
    print(batch.data.item())
"""


@pytest.mark.parametrize(("device", "kept"), [("cpu", True), ("another", False)])
def test_freed_memory_is_kept_by_the_process_on_cpus_and_never_by_its_workers(device, kept):
    command = [sys.executable, "-c", HELD, device]
    environment = {**os.environ, "PYTHONPATH": str(repo())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    worker, here = map(float, done.stdout.split())
    assert (here > 250) is kept and worker < 30


@pytest.mark.parametrize(("world", "here", "wanted"), [(1, None, 3), (4, None, 8), (8, "2", 16), (64, None, 3)])  # fmt: skip
def test_a_process_may_have_its_share_of_the_cores(world, here, wanted, monkeypatch):
    state = SimpleNamespace(num_processes=world)
    monkeypatch.setattr(machine, "this_process", lambda: state)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    if here is None:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert fair_threads() == wanted


def test_a_warning_is_said_once(capsys):
    for _ in range(3):
        machine.warn_once("the test of warnings")
    assert capsys.readouterr().err == "warning: the test of warnings\n"
