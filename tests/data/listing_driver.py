"""The data sets of a folder, as the processes of a launch make them; prints as JSON what each did.

torchrun --nproc_per_node 2 tests/data/listing_driver.py FOLDER
"""

import json
import os
import sys
from pathlib import Path

from accelerate.utils import gather_object

from maskgit.config.sections import DataConfig
from maskgit.data import fingerprint
from maskgit.data.datasets import image_datasets
from maskgit.data.sources import listing
from maskgit.processes import leave_group, this_process

counts = {"scanned": 0, "states": 0}


def counted(owner, name, key):
    real = getattr(owner, name)

    def wrapper(*given):
        counts[key] += 1
        return real(*given)

    setattr(owner, name, wrapper)


counted(os, "scandir", "scanned")
counted(fingerprint, "_states", "states")
listing.KEPT_FROM = 0
state, root = this_process(), sys.argv[1]
data = DataConfig(source={"name": "folder", "root": root}, image_size=16)
sets = image_datasets(data, Path(root), 0)
found = fingerprint.data_hash(*sets)
names = [one.source.name(index) for one in sets for index in range(len(one))]
rows = gather_object([counts | {"names": names, "hash": found}])
if state.is_main_process:
    print(json.dumps(rows))
leave_group()
