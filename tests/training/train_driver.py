"""Train configs one after the other, as one of the processes that a launcher starts.

torchrun --nproc_per_node 2 tests/training/train_driver.py CONFIG.json ...
"""

import json
import sys
from pathlib import Path

from maskgit.config.loading import parse
from maskgit.processes import leave_group
from maskgit.training.trainer import train

for path in sys.argv[1:]:
    train(parse(json.loads(Path(path).read_text()), path))
leave_group()
