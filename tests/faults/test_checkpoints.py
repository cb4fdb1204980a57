"""Flips, cuts and swaps in the newest checkpoint: never loaded as if it were whole."""

import random

import pytest
import torch

from maskgit.training.checkpoints import checkpoints, load_latest, save_checkpoint
from tests.faults.conftest import cases, harm

pytestmark = pytest.mark.faults


def test_no_damaged_checkpoint_is_loaded(tmp_path, tally, capsys):
    draws, passed, count = random.Random(0), 0, cases(40, 200)
    for number in range(count):
        run, tensors = tmp_path / str(number), {}
        for step in (5, 10):
            generator = torch.Generator().manual_seed(step)
            tensors[step] = torch.randn(50, generator=generator)
            parts = {
                "a.module": {"x": tensors[step]},
                "a.optimizer": {"0:step": torch.tensor(step)},
            }
            save_checkpoint(run, step, parts, {"note": "x"}, 2)
        how = harm(checkpoints(run)[-1].iterdir(), draws)
        found = load_latest(run)
        told = "skipped the checkpoint" in capsys.readouterr().err
        older = found.step == 5 and told and torch.equal(found.tensors["a.module"]["x"], tensors[5])
        harmless = found.step == 10 and torch.equal(found.tensors["a.module"]["x"], tensors[10])
        passed += older or harmless
        if not (older or harmless):
            print(*how)
    tally("flips, cuts, swaps: checkpoints", passed, count)
