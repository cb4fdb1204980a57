import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from maskgit.data.sources import SPLITS, load_source, tars
from tests.data.conftest import make_shards, members, write_shard


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "webdataset"


@pytest.fixture
def scanned(monkeypatch):
    """The shards that are read from end to end."""
    found, real = [], tars._scan
    monkeypatch.setattr(tars, "_scan", lambda path, key: found.append(path.name) or real(path, key))
    return found


def load(split="train", **options):
    return load_source({"name": "webdataset", **options}, split)


def bytes_in(shard, name):
    with tarfile.open(shard) as archive:
        return archive.extractfile(name).read()


def test_every_image_is_read_at_its_place_in_any_order(tmp_path):
    pattern, seen = make_shards(tmp_path), []
    for split in SPLITS:
        source = load(split, train=pattern, validation_share=0.3)
        for index in reversed(range(len(source.labels))):
            shard, _, member = source.name(index).partition("/")
            wanted = load_image(bytes_in(tmp_path / shard, member))
            assert np.array_equal(source.image(index), wanted)
            assert source.labels[index] == int(member[-10:-4]) % 3
        seen += [source.name(index) for index in range(len(source.labels))]
        assert source.class_names == ("0", "1", "2")
    assert len(set(seen)) == len(seen) == 40, "each in one of the splits"


def load_image(data):
    return np.asarray(tars.open_image(data))


def test_splits_may_have_their_own_shards(tmp_path):
    train = make_shards(tmp_path)
    write_shard(tmp_path / "val-0.tar", members(90, 5, "JPG"))
    found = [load(split, train=train, validation=str(tmp_path / "val-*.tar")) for split in SPLITS]
    assert [len(source.labels) for source in found] == [40, 5]
    assert found[0].class_names == found[1].class_names
    write_shard(tmp_path / "val-1.tar", members(0, 1, label=lambda _: 7))
    with pytest.raises(ValueError, match="1 of 6 labels are none of the 3 classes \\(7, for one"):
        load("validation", train=train, validation=str(tmp_path / "val-*.tar"))


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp"])
def test_labels_are_also_texts_in_json(tmp_path, suffix):
    names = {"label": lambda number: ["shoe 10", "shoe 9"][number % 2], "json_key": "kind"}
    write_shard(tmp_path / "a.tar", members(0, 9, suffix, **names))
    source = load(train=str(tmp_path / "a.tar"), label_key="kind")
    assert source.class_names == ("shoe 9", "shoe 10") and set(source.labels) == {0, 1}


def test_classes_are_named_by_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("bag\ncoat\nboot\nhat\n")
    found = load(train=make_shards(tmp_path), class_names=str(tmp_path / "names.txt"))
    assert found.class_names == ("bag", "coat", "boot", "hat") and found.labels.max() == 2


def test_shards_are_searched_once_and_again_when_they_change(tmp_path, scanned, cache):
    train = make_shards(tmp_path)
    first = load(train=train)
    load("validation", train=train)
    assert scanned == ["train-0.tar", "train-1.tar"] and len(list(cache.iterdir())) == 2
    write_shard(tmp_path / "train-1.tar", members(50, 20))
    os.utime(tmp_path / "train-1.tar", ns=(1, 1))
    again = load(train=train)
    assert scanned[2:] == ["train-1.tar"] and again.name(len(again.labels) - 1) != first.name(
        len(first.labels) - 1
    )
    for kept in cache.iterdir():
        kept.write_bytes(kept.read_bytes()[:50])
    load(train=train)
    assert len(scanned) == 5, "what is kept is damaged: found anew"


def test_no_file_is_open_in_what_workers_get(tmp_path):
    source = load(train=make_shards(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    there = pickle.loads(pickle.dumps(source))
    assert np.array_equal(there.image(3), source.image(3))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:3000])


def endless(path):
    """Cut where a member ends."""
    with tarfile.open(path) as archive:
        end = archive.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:end])


def no_tar(path):
    path.write_bytes(b"not a tar " * 200)


def zipped(path):
    import gzip

    path.write_bytes(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize("harm", [cut, endless, no_tar, zipped])
def test_a_damaged_shard_is_one_clear_line(tmp_path, harm):
    train = make_shards(tmp_path)
    harm(tmp_path / "train-1.tar")
    with pytest.raises(ValueError, match=r"train-1\.tar is not a whole, plain tar file") as error:
        load(train=train)
    assert "\n" not in str(error.value)


def test_what_is_no_label_is_named(tmp_path):
    picture = next(members())[1]
    wrong = {
        "3 of 3 images have no .cls and no label in a .json": ("txt", b"1"),
        "0.json is no label: [1]": ("json", b'{"label": [1]}'),
        "0.json cannot be read": ("json", b"{"),
        "labels are both texts and numbers": ("cls", b"coat"),
    }
    for message, (suffix, data) in wrong.items():
        found = [(f"{n}.png", picture) for n in range(3)]
        found += [(f"{n}.{suffix}", data if n != 1 else b"3" * (suffix == "cls") or data) for n in range(3)]  # fmt: skip
        write_shard(tmp_path / "a.tar", found)
        with pytest.raises(ValueError) as error:
            load(train=str(tmp_path / "a.tar"))
        assert message in str(error.value)


def test_a_corrupt_image_harms_nothing_else_and_missing_shards_are_named(tmp_path):
    found = [*members(0, 3), ("a.png", b"no picture"), ("a.cls", b"1")]
    write_shard(tmp_path / "a.tar", found)
    source = load(train=str(tmp_path / "a.tar"), validation_share=0.01)
    names = [source.name(index) for index in range(len(source.labels))]
    with pytest.raises(OSError, match="cannot identify"):
        source.image(names.index("a.tar/a.png"))
    with pytest.raises(FileNotFoundError, match=r"set data\.source\.train to a glob of tar files"):
        load(train=str(tmp_path / "none-*.tar"))


def test_an_index_with_any_bit_changed_is_the_same_or_made_again(tmp_path, cache):
    write_shard(tmp_path / "a.tar", members(0, 3))
    truth = load(train=str(tmp_path / "a.tar")).labels.tolist()
    [kept] = cache.iterdir()
    whole = kept.read_bytes()
    made_of = json.loads(np.load(kept)["about"].tobytes())["made of"]
    for place in range(len(whole)):
        harmed = bytearray(whole)
        harmed[place] ^= 1 << place % 8
        kept.write_bytes(harmed)
        found = tars._kept(kept, made_of)
        assert found is None or found.labels == [0, 1, 2]
    assert truth == load(train=str(tmp_path / "a.tar")).labels.tolist()


def test_an_index_that_cannot_be_read_or_kept_is_a_line(tmp_path, cache, capsys):
    train = make_shards(tmp_path)
    load(train=train)
    first, second = cache.iterdir()
    first.write_bytes(first.read_bytes()[:-100])
    load(train=train)
    assert capsys.readouterr().err.count("cannot be read") == 1
    for path in (first, second):
        path.unlink()
    cache.rmdir()
    cache.write_text("a file")
    for split in SPLITS:
        load(split, train=train)
    assert capsys.readouterr().err.count("is not kept") == 2, "once for each shard"
