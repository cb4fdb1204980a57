import os
import shutil

import numpy as np
import pytest

from maskgit.data import fingerprint as fingerprints
from maskgit.data.fingerprint import fingerprint
from maskgit.data.sources import SPLITS, load_source
from maskgit.data.sources.source import from_arrays


def of(root):
    spec = {"name": "folder", "root": str(root)}
    return fingerprint({split: load_source(spec, split) for split in SPLITS})


def test_where_a_folder_lies_does_not_matter(image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "moved" / "images")
    before, moved = of(image_folder), of(tmp_path / "moved" / "images")
    assert before == moved, "copytree keeps dates"
    os.utime(image_folder / "val" / "bag" / "00.png", (1, 1))
    assert of(image_folder)["files"] == before["files"]
    assert of(image_folder)["times"] != before["times"]


def test_names_sizes_and_labels_do(image_folder):
    before = of(image_folder)["files"]
    path = image_folder / "train" / "bag" / "00.png"
    path.rename(path.with_name("99.png"))
    renamed = of(image_folder)["files"]
    path.with_name("99.png").rename(path)
    path.write_bytes(path.read_bytes() + b"0")
    longer = of(image_folder)["files"]
    (image_folder / "train" / "coat").rename(image_folder / "train" / "aaa")
    (image_folder / "val" / "coat").rename(image_folder / "val" / "aaa")
    assert len({before, renamed, longer, of(image_folder)["files"]}) == 4


def test_of_images_in_memory_nobody_knows_dates():
    labels = np.array([0, 1])
    source = from_arrays(np.zeros((2, 4, 4), np.uint8), labels, ("a", "b"), "small")
    other = from_arrays(np.zeros((2, 4, 4), np.uint8), labels[::-1].copy(), ("a", "b"), "small")
    assert fingerprint({"train": source})["times"] == ""
    assert fingerprint({"train": source}) != fingerprint({"train": other})


def test_machines_that_see_other_images_are_told_and_dates_may_differ(monkeypatch):
    told = {0: {"files": "a", "times": "x"}, 8: {"files": "a", "times": "y"}}
    monkeypatch.setattr(fingerprints, "told_by_nodes", lambda work: told)
    assert fingerprints.agreed({}) == told[0]
    told[8]["files"] = "b"
    with pytest.raises(ValueError, match="process 8 sees other images than process 0"):
        fingerprints.agreed({})
