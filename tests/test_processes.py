from types import SimpleNamespace

import pytest
import torch

from maskgit import processes
from maskgit.processes import gather_rows, share_out, this_process


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
