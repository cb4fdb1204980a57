"""Train the same twice on several processes: as it is, and with gradients copied into buckets.

torchrun --nproc_per_node 2 tests/training/bucket_driver.py CONFIG.json
-> the runs `view` and `copy` beside each other
"""

import json
import sys
from pathlib import Path

from accelerate.utils import DistributedDataParallelKwargs

from maskgit.config.loading import parse
from maskgit.processes import leave_group
from maskgit.training import launch
from maskgit.training.learner import Learner
from maskgit.training.trainer import train

config, seen = parse(json.loads(Path(sys.argv[1]).read_text()), "driver"), []
prepared = Learner.__init__


def noted(self, *arguments, **options):
    prepared(self, *arguments, **options)
    seen.append(self.ddp.gradient_as_bucket_view)


Learner.__init__ = noted
train(config.model_copy(update={"run": config.run + "/view"}))
launch.DistributedDataParallelKwargs = lambda **_: DistributedDataParallelKwargs()
train(config.model_copy(update={"run": config.run + "/copy"}))
assert seen == [True, True, False, False], seen
leave_group()
