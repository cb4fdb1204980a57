import numpy as np
import pytest

from maskgit.data.shards import map_tensors, proof_of, shard_path, write_shard

CODES = np.arange(24, dtype=np.int64).reshape(3, 1, 2, 4) % 16
LABELS = np.array([0, 1, 2])


@pytest.fixture
def shard(tmp_path):
    path = shard_path(tmp_path, "train", 3)
    write_shard(path, CODES, LABELS, 16, {"made of": "x"})
    return path


def test_a_shard_is_mapped_as_it_was_written(shard):
    tensors = map_tensors(shard)
    assert shard.name == "train-00003.safetensors"
    assert (tensors["codes"] == CODES).all() and (tensors["labels"] == LABELS).all()
    assert proof_of(shard)["made of"] == "x"


def test_the_same_is_written_as_the_same_bytes(shard, tmp_path):
    write_shard(tmp_path / "b", CODES, LABELS, 16, {"made of": "x"})
    assert (tmp_path / "b").read_bytes() == shard.read_bytes()


def test_no_changed_byte_is_proved(shard):
    """But for spaces that end a header, which mean nothing."""
    whole = shard.read_bytes()
    for place in range(len(whole)):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert proof_of(shard).get("made of") != "x" or chr(whole[place]) == " ", place


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1])
def test_a_cut_shard_is_named(shard, size):
    shard.write_bytes(shard.read_bytes()[:size])
    assert proof_of(shard) == {}
    with pytest.raises(ValueError, match="train-00003.safetensors is damaged"):
        map_tensors(shard)
