"""Msgpack of flax, written here byte by byte and read without flax."""

import struct

import numpy as np
import pytest
import torch

from maskgit.importing.msgpack import load_msgpack
from tests.importing.golden import checkpoint


def packed(value):
    """The msgpack of flax: numpy arrays as extension 1, numpy scalars as 3, complex as 2."""
    if isinstance(value, np.generic):
        return extension(3, array(value))
    if isinstance(value, np.ndarray):
        return extension(1, array(value))
    if isinstance(value, torch.Tensor):
        data = value.contiguous().view(torch.uint8).numpy().tobytes()
        return extension(1, of_parts(value.shape, str(value.dtype)[6:], data))
    if isinstance(value, complex):
        return extension(2, packed([value.real, value.imag]))
    if isinstance(value, dict):
        head = small(0x80, 0xDE, len(value))
        return head + b"".join(packed(key) + packed(part) for key, part in value.items())
    if isinstance(value, list):
        return small(0x90, 0xDC, len(value)) + b"".join(map(packed, value))
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, str):
        data = value.encode()
        return (
            bytes([0xA0 + len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])
        ) + data
    if isinstance(value, bool) or value is None:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)


def small(fixed, long, count):
    return bytes([fixed + count]) if count < 16 else bytes([long]) + struct.pack(">H", count)


def extension(kind, data):
    return b"\xc9" + struct.pack(">Ib", len(data), kind) + data


def of_parts(shape, name, data):
    return packed([list(shape), name.encode(), data])


def array(value):
    return of_parts(value.shape, value.dtype.name, value.tobytes())


@pytest.fixture
def read(tmp_path):
    def call(data):
        path = tmp_path / "checkpoint"
        path.write_bytes(data if isinstance(data, bytes) else packed(data))
        return load_msgpack(path)

    return call


KINDS = "bool uint8 int8 int16 int32 int64 uint16 uint32 float16 bfloat16 float32 float64 complex64"


@pytest.mark.parametrize("shift", range(8))
@pytest.mark.parametrize("kind", KINDS.split())
def test_arrays_of_every_kind_come_back_wherever_they_lie(read, kind, shift):
    value = (torch.arange(6) - 2).view(2, 3).to(getattr(torch, kind))
    tree = read({"x" * (shift + 1): 1, "params": {"b": {"kernel": value}, "empty": value[:0]}})
    out = tree["params"]["b"]["kernel"]
    assert out.dtype == value.dtype and torch.equal(out, value)
    assert tree["params"]["empty"].shape == (0, 3)


def test_scalars_and_plain_values_come_back(read):
    plain = {
        "step": 100_000,
        "neg": -3,
        "n": None,
        "yes": True,
        "no": False,
        "f": 0.5,
        "s": "text" * 20,
    }
    tree = read({**plain, "z": 1 + 2j, "scalar": np.float32(1.5), "list": [1, [2]]})
    assert torch.equal(tree.pop("scalar"), torch.tensor(1.5))
    assert tree == {**plain, "z": 1 + 2j, "list": [1, [2]]}


@pytest.mark.parametrize("shift", range(4))
def test_an_array_in_chunks_is_put_together(read, shift):
    value = np.arange(10, dtype=np.float32).reshape(2, 5)
    chunks = {str(i): value.reshape(-1)[at : at + 4] for i, at in enumerate((0, 4, 8))}
    shape = {"0": 2, "1": 5}
    tree = read(
        {"y" * (shift + 1): {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}}
    )
    assert torch.equal(tree["y" * (shift + 1)], torch.from_numpy(value))


@pytest.mark.parametrize("system", ["maskgit_flax_tokenizer", "maskgit_flax_transformer"])
def test_golden_files_are_whole(system):
    (root,) = load_msgpack(checkpoint(system)).values()
    leaves, total = [root], 0
    while leaves:
        leaf = leaves.pop()
        leaves += leaf.values() if isinstance(leaf, dict) else []
        total += leaf.numel() * 4 if isinstance(leaf, torch.Tensor) else 0
    size = checkpoint(system).stat().st_size
    assert 0.9 * size < total < size


@pytest.mark.parametrize("system", ["maskgit_flax_transformer"])
def test_a_cut_file_is_named_wherever_it_is_cut(system, tmp_path):
    data = checkpoint(system).read_bytes()
    path = tmp_path / "cut"
    for end in (2, 9, 40, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match="cut short: .* download it again") as caught:
            load_msgpack(path)
        assert "\n" not in str(caught.value)


def chunked(**parts):
    return {"w": {"__msgpack_chunked_array__": True, "shape": {"0": 4}, **parts}}


LONG = 2**32 - 1
HOSTILE = {
    "a text longer than the file": b"\x81\xdb" + struct.pack(">I", LONG),
    "bytes longer than the file": b"\x81\xa1x\xc6" + struct.pack(">I", LONG),
    "a map longer than the file": b"\xdf" + struct.pack(">I", LONG),
    "a list longer than the file": b"\x81\xa1x\xdd" + struct.pack(">I", LONG),
    "an extension longer than the file": b"\x81\xa1x\xc9" + struct.pack(">Ib", LONG, 1),
    "too deep": b"\x81\xa1x" * 5000 + b"\x01",
    "lists too deep": b"\x81\xa1x" + b"\x91" * 5000 + b"\x01",
    "bytes after the end": b"\x81\xa1x\x01\x01",
    "a key that is a number": b"\x81\x01\x01",
    "a key twice": b"\x82\xa1x\x01\xa1x\x02",
    "a list at the root": b"\x91\x01",
    "no msgpack": b"\x81\xa1x\xc1",
    "no UTF-8": b"\x81\xa2\xff\xff\x01",
    "another extension": packed({"x": 1})[:-1] + extension(7, b"abc"),
    "an array of nothing": packed({"x": 1})[:-1] + extension(1, b"\x01"),
    "an array of two parts": packed({"x": 1})[:-1] + extension(1, packed([[1], b"float32"])),
    "an unknown dtype": packed({"x": 1})[:-1] + extension(1, of_parts([1], "object", b"12345678")),
    "a shape larger than the bytes": packed({"x": 1})[:-1]
    + extension(1, of_parts([2**40, 2**20], "float32", b"1234")),
    "a negative shape": packed({"x": 1})[:-1]
    + extension(1, of_parts([-1, -1], "float32", b"1234")),
    "a shape of texts": packed({"x": 1})[:-1] + extension(1, of_parts(["a"], "float32", b"1234")),
    "an array shorter than its extension": packed({"x": 1})[:-1]
    + extension(1, of_parts([1], "float32", b"1234") + b"\x00"),
    "half a complex number": packed({"x": 1})[:-1] + extension(2, packed([1.0])),
    "a complex number of texts": packed({"x": 1})[:-1] + extension(2, packed(["a", "b"])),
    "no chunks": packed(chunked()),
    "chunks of something": packed(chunked(chunks={"0": 1})),
    "chunks that do not fill": packed(chunked(chunks={"0": np.zeros(3, np.float32)})),
    "chunks that differ": packed(
        chunked(chunks={"0": np.zeros(2, np.float32), "1": np.zeros(2, np.float64)})
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(read, name):
    with pytest.raises(ValueError, match="is no msgpack of flax that can be read: ") as caught:
        read(HOSTILE[name])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_too_many_values_are_refused(read):
    with pytest.raises(ValueError, match="holds more than 1,000,000 values"):
        read(b"\x81\xa1x\xdd" + struct.pack(">I", 1_000_001) + b"\x01" * 1_000_001)
