"""Codes that lie on a device give the batches that the host would have given."""

import numpy as np
import pytest
import torch

from maskgit.data import resident
from maskgit.data.codes import CodeDataset
from maskgit.data.manifest import MANIFEST, write_sealed
from maskgit.data.order import StepOrder, batches
from maskgit.data.resident import ResidentCodes, on_device
from maskgit.data.shards import shard_path, write_shard
from tests.waits import Waits, hurry
from vqgan.files import sha256

ROWS = (5, 7, 1)


def cache(folder, codebook_size, views=2, labels=1):
    """A cache of three shards, with the largest code in it."""
    folder.mkdir()
    rng, paths = np.random.default_rng(0), []
    for number, rows in enumerate(ROWS):
        codes = rng.integers(codebook_size, size=(rows, views, 2, 3))
        codes[0, 0, 0, 0] = codebook_size - 1
        own = rng.integers(3, size=rows if labels == 1 else (rows, labels))
        paths.append(shard_path(folder, "train", number))
        write_shard(paths[-1], codes, own, codebook_size)
    manifest = {
        "format": "maskgit-codes-1", "codebook_size": codebook_size, "class_names": ["a", "b", "c"],
        "splits": {"train": {"shards": list(ROWS), "images": 13, "skipped": 0}}, "tokenizer_sha256": "0", "source": {"name": "none"},
        "transform": {}, "sha256": {p.name: sha256(p) for p in paths},
    }  # fmt: skip
    write_sealed(folder / MANIFEST, manifest)
    return CodeDataset(folder, "train", seed=3, augment=True)


@pytest.mark.parametrize("codebook_size", [16, 2**16, 2**18])
@pytest.mark.parametrize(("views", "labels"), [(2, 1), (1, 4)])
def test_batches_are_those_of_the_host(tmp_path, codebook_size, views, labels):
    dataset = cache(tmp_path / "codes", codebook_size, views, labels)
    there = ResidentCodes(dataset, torch.device("cpu"))
    assert len(there) == 13 and there.grid == (2, 3) and there.manifest is dataset.manifest
    assert there.codes.element_size() == {16: 1, 2**16: 2, 2**18: 4}[codebook_size]
    how = {"seed": 1, "start": 2, "stop": 12, "rank": 1, "world": 2, "accumulate": 2}
    order, largest = StepOrder(13, 8, **how), 0
    for a, b in zip(batches(dataset, order), batches(there, order), strict=True):
        assert a.data.dtype == b.data.dtype == torch.int64 and torch.equal(a.data, b.data)
        assert a.labels.dtype == b.labels.dtype and torch.equal(a.labels, b.labels)
        largest = max(largest, int(b.data.max()))
    assert views == 1 or largest == codebook_size - 1


def test_a_batch_is_not_waited_for(tmp_path, monkeypatch):
    hurry(monkeypatch)
    there = ResidentCodes(cache(tmp_path / "codes", 2**16), torch.device("meta"))
    with Waits() as waits:
        batch = there.__getitems__([(0, 0), (12, 4)])
    assert batch.data.device.type == "meta" and batch.data.shape == (2, 2, 3)
    assert waits.found == [] and waits.seen > 3


def test_codes_go_where_they_take_a_tenth_of_what_is_free(tmp_path, monkeypatch):
    dataset, device = cache(tmp_path / "codes", 2**16), torch.device("cpu")
    assert on_device(dataset, device) is dataset, "a CPU's memory is where they lie"
    size = 13 * 2 * 6 * 2 + 13 * 8
    for free, goes in ((10 * size, False), (10 * size + 10, True)):
        monkeypatch.setattr(resident, "free_memory", lambda device, free=free: float(free))
        assert isinstance(on_device(dataset, device), ResidentCodes) == goes
