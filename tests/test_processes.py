import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

from maskgit import processes
from maskgit.processes import gather_rows, held, new_part, others_lost, share_out, this_process
from tests.conftest import repo


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_item_has_one_process_and_all_make_as_many_turns(world, monkeypatch):
    turns = []
    for rank in range(world):
        state = SimpleNamespace(num_processes=world, process_index=rank)
        monkeypatch.setattr(processes, "this_process", lambda state=state: state)
        turns.append(list(share_out("abcdefg")))
    assert len({len(mine) for mine in turns}) == 1
    in_order = [item for block in zip(*turns, strict=True) for _, item in block if item]
    assert "".join(in_order) == "abcdefg", "block by block, in the order of the processes"


def test_alone_rows_stay_as_they_are():
    rows = torch.rand(3, 2)
    assert gather_rows(rows) is rows and this_process().is_main_process


LOST = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection closed by peer [::1]"


def test_errors_of_a_group_are_told_from_others():
    lost = [RuntimeError(LOST), RuntimeError("Gloo connectFullMesh failed with ..."),
            torch.distributed.DistBackendError("NCCL communicator was aborted")]  # fmt: skip
    others = [RuntimeError("runs/igloo/step: shapes differ"), ValueError(LOST), KeyError("gloo")]
    assert all(map(others_lost, lost)) and not any(map(others_lost, others))


def held_by_another(folder, seconds="60"):
    """A process that holds a folder and says so."""
    code = (
        "import sys, time; from maskgit.processes import held\n"
        "with held(sys.argv[1], 'train'): print('held', flush=True); time.sleep(float(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(repo())}
    command = [sys.executable, "-c", code, str(folder), seconds]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_folder_is_refused_until_its_owner_is_dead(tmp_path):
    (tmp_path / ".tmp-half.png").touch()
    process = held_by_another(tmp_path)
    try:
        with (
            pytest.raises(ValueError, match=rf"in use by train \(pid {process.pid} on .*, since 2"),
            held(tmp_path, "tokenize"),
        ):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with held(tmp_path, "tokenize"):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".lock"]


def test_a_fork_does_not_keep_what_its_parent_held(tmp_path):
    """As a loader's worker, which may outlive a killed training."""
    with held(tmp_path, "train"):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    try:
        with held(tmp_path, "train"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_processes_wait_long_enough_for_metrics(monkeypatch):
    """Not ten minutes, as NCCL does by itself."""
    asked = {}
    monkeypatch.setattr(processes, "PartialState", lambda **options: asked.update(options))
    this_process()
    assert asked["timeout"] == processes.PATIENCE > timedelta(hours=1)


def test_alone_a_sum_is_its_own():
    assert torch.equal(processes.summed(torch.arange(3)), torch.arange(3))


def meeting(store, world):
    """Where so many processes meet, each in a thread."""
    found = {}

    def come(rank):
        found[rank] = new_part(store, rank, world, timedelta(seconds=20))

    threads = [threading.Thread(target=come, args=(rank,)) for rank in reversed(range(world))]
    for thread in threads:
        thread.start()
        time.sleep(0.03)  # the first comes last
    for thread in threads:
        thread.join()
    return found


def test_processes_that_are_started_again_never_meet_those_of_before():
    store = torch.distributed.HashStore()
    for start in range(3):
        parts = meeting(store, 3)
        for part in parts.values():
            for other in range(3):
                assert not part.check([f"address of {other}"]), "of an earlier start"
        for rank, part in parts.items():
            part.set(f"address of {rank}", str(start))
        assert all(parts[0].get(f"address of {rank}") == str(start).encode() for rank in parts)
        store.set("maskgit/asks/1", "who died while it waited")


def test_the_first_process_says_who_did_not_come():
    with pytest.raises(TimeoutError, match="process 1 of 3 did not come"):
        new_part(torch.distributed.HashStore(), 0, 3, timedelta(seconds=0.1))
