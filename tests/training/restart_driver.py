"""Train a config by `maskgit train`; in the first start a process is killed in the middle.

    torchrun --max-restarts 1 --nproc_per_node 2 tests/training/restart_driver.py CONFIG.json

In the second start the main process comes last, when the other one has looked for it.
"""

import os
import sys
import time

from maskgit.cli import main
from maskgit.training.trainer import Training
from tests.training.resume_driver import die, on_call

start, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
if (start, rank) == ("0", "1"):
    on_call(Training, "one_step", 4, die)
if (start, rank) == ("1", "0"):
    time.sleep(3)
main(["train", sys.argv[1]])
