import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from maskgit.data import cache, codes
from maskgit.data.codes import CodeDataset
from maskgit.data.manifest import read_manifest, write_sealed
from maskgit.data.pixels import to_float
from maskgit.data.tokenization import tokenize_dataset
from tests.conftest import repo
from tests.data.conftest import make_tokenizer
from vqgan.tokenizers import load_tokenizer


@pytest.mark.parametrize("shard_rows", [7, 8192])
def test_the_cache_holds_what_the_tokenizer_says(tmp_path, data, monkeypatch, shard_rows):
    monkeypatch.setattr(cache, "SHARD_ROWS", shard_rows)
    path = make_tokenizer(tmp_path / "t.safetensors")
    tokenize_dataset(path, tmp_path / "codes", data, batch_size=5)
    cached = CodeDataset(tmp_path / "codes", "train", seed=1, augment=True)
    assert len(cached) == 24 and cached.grid == (4, 4) and cached.num_views == 2
    assert all(isinstance(shard, np.memmap) and shard.dtype == np.uint8 for shard in cached.codes)
    tokenizer = load_tokenizer(path)
    from maskgit.data.datasets import ImageDataset, Quarantine
    from maskgit.data.pixels import Transform
    from maskgit.data.sources import load_source

    images = ImageDataset(
        load_source(data.source, "train"), Transform(16, 1), quarantine=Quarantine()
    )
    keys = [(i, epoch) for epoch in (0, 1, 2) for i in (20, 3, 11, 0)]
    batch, truth = cached.__getitems__(keys), images.__getitems__(keys)
    views = torch.stack(
        [tokenizer.encode(to_float(truth.data)), tokenizer.encode(to_float(truth.data).flip(-1))]
    )
    seen = torch.stack(
        [
            torch.tensor([torch.equal(a, b) for a, b in zip(batch.data, view, strict=True)])
            for view in views
        ]
    )
    assert seen.any(0).all() and not seen[0].all() and not seen[1].all(), "a coin chooses the view"
    assert torch.equal(batch.labels, truth.labels) and batch.data.dtype == torch.int64
    plain = CodeDataset(tmp_path / "codes", "train").__getitems__(keys)
    assert torch.equal(plain.data, views[0])


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="not a maskgit-codes-1 manifest"):
        CodeDataset(tmp_path, "train")


def test_a_missing_shard_is_named_and_made_again(tmp_path, data):
    path = make_tokenizer(tmp_path / "t.safetensors")
    tokenize_dataset(path, tmp_path / "codes", data)
    (tmp_path / "codes" / "train-00000.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="train-00000.safetensors is missing"):
        CodeDataset(tmp_path / "codes", "train")
    tokenize_dataset(path, tmp_path / "codes", data)
    assert len(CodeDataset(tmp_path / "codes", "train")) == 24


def whole(tmp_path, data):
    """A cache of two training shards, and the tokenizer it was made by."""
    path = make_tokenizer(tmp_path / "t.safetensors")
    tokenize_dataset(path, tmp_path / "codes", data)
    return path, tmp_path / "codes"


def test_what_was_verified_is_not_hashed_again(tmp_path, data, monkeypatch):
    _, out = whole(tmp_path, data)
    CodeDataset(out, "train")
    monkeypatch.setattr(codes, "sha256", None)
    CodeDataset(out, "train")


def test_a_code_or_label_out_of_range_is_refused(tmp_path, data):
    _, out = whole(tmp_path, data)
    manifest = read_manifest(out)
    for key, value, said in (
        ("codebook_size", 2, r"codes \d+ \.\. \d+, not in 0 \.\. 1"),
        ("class_names", ["bag"], r"labels 0 \.\. 1, not in 0 \.\. 0"),
    ):
        write_sealed(out / "manifest.json", manifest | {key: value})
        with pytest.raises(ValueError, match=said):
            CodeDataset(out, "train")


def test_a_shard_changed_under_its_old_date_is_refused(tmp_path, data):
    _, out = whole(tmp_path, data)
    CodeDataset(out, "train")
    path = out / "train-00000.safetensors"
    state, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(ValueError, match="train-00000.safetensors is not as it was written"):
        CodeDataset(out, "train")


def test_a_cache_of_version_0_1_is_read_and_says_that_nothing_proves_it(tmp_path, capfd):
    shutil.copytree(repo() / "tests" / "golden" / "0.1" / "codes", tmp_path / "codes")
    for split, count in (("train", 24), ("validation", 8)):
        assert len(CodeDataset(tmp_path / "codes", split)) == count
    assert capfd.readouterr().err.count("kept no hashes") == 1


@pytest.mark.parametrize(("old", "new"), [(b'"codes"', b'"cades"'), (b'"U8"', b'"I8"'), (b'"labels"', b'"lebels"')])  # fmt: skip
def test_a_header_that_no_shard_has_is_named(tmp_path, old, new):
    shutil.copytree(repo() / "tests" / "golden" / "0.1" / "codes", tmp_path / "codes")
    path = tmp_path / "codes" / "train-00000.safetensors"
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ValueError, match="train-00000.safetensors is damaged"):
        CodeDataset(tmp_path / "codes", "train")


def test_a_worker_that_is_spawned_maps_the_cache_itself(tmp_path, data):
    cached = CodeDataset(whole(tmp_path, data)[1], "train", seed=3, augment=True)
    sent = pickle.dumps(cached)
    assert len(sent) < 1000, "no codes are sent"
    there, keys = pickle.loads(sent), [(i, 1) for i in range(24)]
    assert all(isinstance(shard, np.memmap) for shard in there.codes)
    here, again = (cache.__getitems__(keys) for cache in (cached, there))
    assert torch.equal(here.data, again.data) and torch.equal(here.labels, again.labels)
