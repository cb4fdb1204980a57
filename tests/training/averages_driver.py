"""Train a tokenizer with each quantizer, and print as JSON which of its exported tensors are not the
trained ones.

    torchrun --nproc_per_node N tests/training/averages_driver.py CONFIG.json

The averages have no memory (train.ema_decay=0), so that all are to be equal.
"""

import json
import sys
from pathlib import Path

from maskgit.config.loading import parse
from maskgit.processes import leave_group, this_process
from maskgit.training.checkpoints import load_latest
from maskgit.training.trainer import train
from vqgan.quantizers import QUANTIZERS
from vqgan.weights import load_weights

given, different = json.loads(Path(sys.argv[1]).read_text()), {}
for name in QUANTIZERS:
    changes = {
        "run": f"{given['run']}-{name}",
        "model": given["model"] | {"quantizer": name},
        "train": given["train"] | {"ema_decay": 0.0},
    }
    config = parse(given | changes, "driver")
    _, exported = load_weights(train(config), "tokenizer")
    trained = load_latest(Path(config.run)).tensors["tokenizer.module"]
    assert exported.keys() == trained.keys()
    different[name] = [key for key in trained if not exported[key].equal(trained[key])]
if this_process().is_main_process:
    print(json.dumps(different))
leave_group()
