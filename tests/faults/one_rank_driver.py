"""Train a tokenizer on several processes, one of which sees NaN in every fourth step.

torchrun --nproc_per_node 2 tests/faults/one_rank_driver.py CONFIG.json [late]
late: as on an accelerator, which is not waited for.
"""

import json
import sys
from pathlib import Path

from pytest import MonkeyPatch

from maskgit.config.loading import parse
from maskgit.processes import leave_group, this_process
from maskgit.training.tasks.tokenizer import TokenizerTask
from maskgit.training.trainer import train
from tests.conftest import as_an_accelerator

update, images = TokenizerTask.update, TokenizerTask._images


def noted(self, step, parts):
    self.is_bad = step % 4 == 1 and this_process().process_index == step // 4 % 2
    return update(self, step, parts)


def poisoned(self, batch):
    return images(self, batch) * (float("nan") if getattr(self, "is_bad", False) else 1.0)


TokenizerTask.update, TokenizerTask._images = noted, poisoned
if sys.argv[2:] == ["late"]:
    as_an_accelerator(MonkeyPatch())
train(parse(json.loads(Path(sys.argv[1]).read_text()), "driver"))
leave_group()
