"""Files that somebody else has made: nothing runs, no traceback, little memory and time."""

import io
import json
import os
import pickle
import resource
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from maskgit.pipeline.pipeline import Pipeline
from tests.conftest import TINY_TOKENIZER, cli
from tests.faults.conftest import cases
from vqgan.quantizers import QUANTIZERS
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizers import load_tokenizer

pytestmark = pytest.mark.faults

HUGE = [2**20 + 1, 10**9, 2**31, 2**40, 2**63, 2**70, 10**300]
WRONG = [
    -1,
    0,
    1.5,
    "x",
    "",
    None,
    True,
    [],
    {},
    [0],
    [-1],
    [10**9],
    [2] * 60,
    [[8]],
    {"name": "x"},
]


QUANTIZER_OPTIONS = [
    {"codebook_size": 2**40}, {"codebook_size": 0}, {"codebook_dim": 2**33}, {"foo": 1},
    {"codes_per_cell": 10**9}, {"levels": [2**16] * 8}, {"levels": [1]},
]  # fmt: skip


def refused(load):
    """Whether loading ends in one line, within ten seconds and a gibibyte."""

    def tried():
        try:
            load()
        except (ValueError, OSError) as error:
            assert "\n" not in str(error), error
            return "refused"
        return "loaded"

    result, cost = measured(tried)
    return result if result == "loaded" or not cost else cost


def measured(work):
    """-> (what it gives, "" or what it took if that is more than ten seconds or a gibibyte)."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    result, seconds = work(), time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    return result, "" if seconds < 10 and grown < 1 else f"{seconds:.0f} s, {grown:.1f} GiB"


def with_header(source, target, key, value):
    """A copy of a file of weights without a hash, an option of its model changed."""
    tensors = load_file(source)
    with safe_open(source, "pt") as file:
        header = json.loads(file.metadata()["maskgit"])
    del header["sha256"]
    header["config"]["model"][key] = value
    save_file(tensors, target, {"maskgit": json.dumps(header)})


def changes_of_model(model):
    """Every option of a model, set to what is wrong or huge."""
    for key in model:
        for value in (*HUGE, *WRONG):
            if value != model[key]:
                yield key, value


def test_no_header_of_a_tokenizer_takes_memory_or_ends_in_a_traceback(tmp_path, tally):
    path, hostile = tmp_path / "t.safetensors", tmp_path / "h.safetensors"
    tokenizer = Tokenizer(image_size=16, channels=1, **TINY_TOKENIZER)
    tokenizer.save(path)
    wanted = list(changes_of_model(json.loads(json.dumps(tokenizer.config))))
    wanted += [
        ("quantizer", {"name": name, **options})
        for name in QUANTIZERS
        for options in QUANTIZER_OPTIONS
    ]
    wanted = wanted[:: cases(4, 1)]
    harmless = {"image_size", "checkpointing", "channels_last", "attention"}
    passed = 0
    for key, value in wanted:
        with_header(path, hostile, key, value)
        result = refused(lambda: load_tokenizer(hostile))
        passed += result == "refused" or (result == "loaded" and key in harmless)
        if not (result == "refused" or key in harmless):
            print(key, value, result)
    tally("headers: tokenizers", passed, len(wanted))


def test_no_header_of_a_generator_does(run, tmp_path, tally):
    folder = run / "pipeline"
    (folder / "config.json").write_text(
        json.dumps(
            {
                k: v
                for k, v in json.loads((folder / "config.json").read_text()).items()
                if k != "sha256"
            }
        )
    )
    whole, path = tmp_path / "whole.safetensors", folder / "model.safetensors"
    whole.write_bytes(path.read_bytes())
    model = json.loads(json.dumps(Pipeline.from_pretrained(run).net.config))
    wanted = list(changes_of_model(model))[:: cases(8, 1)]
    passed = 0
    for key, value in wanted:
        with_header(whole, path, key, value)
        result = refused(lambda: Pipeline.from_pretrained(run))
        passed += result in ("refused", "loaded")
        if result not in ("refused", "loaded"):
            print(key, value, result)
    tally("headers: generators", passed, len(wanted))


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_info_of_a_hostile_header_is_a_line_soon(run, tmp_path, capfd, tally):
    whole, path = run / "pipeline" / "model.safetensors", tmp_path / "h.safetensors"
    model = json.loads(json.dumps(Pipeline.from_pretrained(run).net.config))
    wanted = [("depth", 10**9), ("depth", 10**5), ("heads", 10**9), ("dim", 2**40), ("grid", [10**9, 10**9]),
              ("foo", nested(40)), ("foo", nested(60)), ("foo", nested(900)), ("code_levels", [2] * 10**6),
              ("num_classes", 2**40), ("foo", "x" * 10**6)]  # fmt: skip
    wanted += list(changes_of_model(model))[:: cases(16, 2)]
    passed = 0
    for key, value in wanted:
        with_header(whole, path, key, value)
        status, cost = measured(lambda: cli("info", path))
        said = capfd.readouterr()
        line = said.err.strip()
        good = (status == 0 and len(said.out) < 10**5) or (
            status == 2 and line.startswith("maskgit: ") and "\n" not in line and len(line) < 2000
        )
        passed += good and not cost
        if not good or cost:
            print(key, repr(value)[:80], status, cost, line[-500:])
    tally("headers: info", passed, len(wanted))


def header_bytes(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


RAW = {
    "nothing": b"",
    "eight zeros": bytes(8),
    "a length beyond the file": (2**40).to_bytes(8, "little") + b"{}",
    "a length of 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "no JSON": header_bytes(b"{" * 1000),
    "nested deeply": header_bytes(b"[" * 100_000 + b"]" * 100_000),
    "a list": header_bytes([]),
    "offsets beyond the file": header_bytes({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    "offsets that overlap": header_bytes({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "xy"}, bytes(4)),
    "a huge shape": header_bytes({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, bytes(4)),
    "a negative shape": header_bytes({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "a type of no name": header_bytes({"x": {"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "metadata of numbers": header_bytes({"__metadata__": {"maskgit": 3}}),
    "metadata that is no JSON": header_bytes({"__metadata__": {"maskgit": "{"}}),
    "metadata nested deeply": header_bytes({"__metadata__": {"maskgit": "[" * 100_000}}),
    "metadata of a list": header_bytes({"__metadata__": {"maskgit": "[]"}}),
    "no config": header_bytes({"__metadata__": {"maskgit": '{"format": "maskgit-1", "kind": "tokenizer"}'}}),
    "a config that is a list": header_bytes({"__metadata__": {"maskgit": '{"format": "maskgit-1", "kind": "tokenizer", "config": []}'}}),
    "no model": header_bytes({"__metadata__": {"maskgit": '{"format": "maskgit-1", "kind": "tokenizer", "config": {}}'}}),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a zip": b"PK\x03\x04" + bytes(100),
}  # fmt: skip


def test_bytes_that_are_no_weights_are_refused(tmp_path, tally):
    path, passed = tmp_path / "t.safetensors", 0
    for name, content in RAW.items():
        path.write_bytes(content)
        result = refused(lambda: load_tokenizer(path))
        passed += result == "refused"
        if result != "refused":
            print(name, result)
    tally("headers: raw", passed, len(RAW))


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def pickles(mark):
    """Files with a payload, in the formats that carry one."""
    payload = Payload(mark)
    torch_file, array, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": payload}, torch_file)
    np.save(array, np.array([payload], dtype=object), allow_pickle=True)
    np.savez(arrays, arr_0=np.array([payload], dtype=object))
    old = io.BytesIO()
    torch.save({"weight": payload}, old, _use_new_zipfile_serialization=False)
    return {
        "pickle": pickle.dumps(payload),
        "torch": torch_file.getvalue(),
        "old torch": old.getvalue(),
        "npy": array.getvalue(),
        "npz": arrays.getvalue(),
    }


def test_no_pickle_is_ever_run(run, tmp_path, tally, capfd):
    mark, passed, count = tmp_path / "mark", 0, 0
    places = [
        (run / "pipeline" / "model.safetensors", lambda p: cli("sample", run, "--out", tmp_path / "g.png")),
        (run / "pipeline" / "tokenizer.safetensors", lambda p: cli("sample", run, "--out", tmp_path / "g.png")),
        (run / "pipeline" / "config.json", lambda p: cli("sample", run, "--out", tmp_path / "g.png")),
        (run / "pipeline" / "presets" / "x.yaml", lambda p: cli("sample", run, "--out", tmp_path / "g.png")),
        (tmp_path / "config.yaml", lambda p: cli("train", p)),
        (tmp_path / "samples.npz", lambda p: cli("evaluate", "--samples", p, "--reference", "mnist/vqgan", "--features", "classifier", "--weights", tmp_path)),
        (tmp_path / "classifier.safetensors", lambda p: cli("evaluate", run, "--reference", "mnist/vqgan", "--features", "classifier", "--weights", p)),
        (tmp_path / "inception.pth", lambda p: cli("evaluate", run, "--reference", "mnist/vqgan", "--features", "inception", "--weights", p)),
        (tmp_path / "t.safetensors", lambda p: cli("tokenize", p, "--out", tmp_path / "codes")),
    ]  # fmt: skip
    for path, command in places[:: cases(2, 1)]:
        path.parent.mkdir(exist_ok=True)
        before = path.read_bytes() if path.exists() else None
        for name, content in pickles(mark).items():
            path.write_bytes(content)
            status = command(path)
            said = capfd.readouterr().err
            good = status == 2 and "Traceback" not in said and not mark.exists()
            passed, count = passed + good, count + 1
            if not good:
                print(path.name, name, status, said[-500:])
        path.unlink()
        if before is not None:
            path.write_bytes(before)
    tally("pickles", passed, count)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(shape, descr="|u1", body=b"", fortran=False):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": fortran, "shape": shape}
    )
    return file.getvalue() + body


def archive(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name.replace("__", "."), content)
    return file.getvalue()


def encrypted(content):
    """The same archive, each member flagged as encrypted in both of its headers."""
    content = bytearray(content)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


def twice(content):
    """An archive with two arrays of one name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made, warnings.catch_warnings(action="ignore"):
        for _ in range(2):
            made.writestr("arr_0.npy", content)
    return file.getvalue()


IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
NPZ = {
    "nothing": b"",
    "no zip": b"x" * 100,
    "a zip of nothing": archive(),
    "a zip of text": archive(arr_0__txt="x"),
    "no arr_0": archive(arr_5__npy=npy(IMAGES)),
    "no images": archive(arr_0__npy=npy(IMAGES[:0])),
    "images of no pixels": archive(arr_0__npy=npy(np.zeros((4, 0, 0, 3), np.uint8))),
    "floats": archive(arr_0__npy=npy(IMAGES.astype(np.float32))),
    "int64": archive(arr_0__npy=npy(IMAGES.astype(np.int64))),
    "two axes": archive(arr_0__npy=npy(IMAGES[0, 0])),
    "five channels": archive(arr_0__npy=npy(np.zeros((4, 8, 8, 5), np.uint8))),
    "channels first": archive(arr_0__npy=npy(np.zeros((4, 3, 8, 8), np.uint8))),
    "fewer labels": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.zeros(3, np.int64))),
    "labels of text": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.array(["a"] * 4))),
    "labels of floats": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.full(4, np.nan))),
    "labels of no class": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.full(4, -1))),
    "fewer bytes than its shape": archive(arr_0__npy=npy_header((4, 8, 8, 3), body=bytes(10))),
    "a shape of terabytes": archive(arr_0__npy=npy_header((10**6, 1000, 1000, 3), body=bytes(10))),
    "images of gigabytes": archive(arr_0__npy=npy_header((1, 2**17, 2**17, 3), body=bytes(10))),
    "images without end": archive(arr_0__npy=npy_header((2**62, 8, 8, 3), body=bytes(10))),
    "labels without end": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy_header((2**40,), "<i8")),
    "labels beyond int64": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.full(4, 2**64 - 1, np.uint64))),
    "a bomb": archive(arr_0__npy=npy(np.zeros((400_000, 8, 8, 3), np.uint8))),
    "more bytes than its shape": archive(arr_0__npy=npy(IMAGES) + bytes(99)),
    "no .npy": archive(arr_0=npy(IMAGES)),
    "a path": archive(**{"../arr_0__npy": npy(IMAGES)}),
    "a nested header": archive(arr_0__npy=b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9000),
    "a structure": archive(arr_0__npy=npy(np.zeros(4, [("a", "u1", (8, 8, 3))]))),
    "truth values": archive(arr_0__npy=npy(IMAGES.astype(bool))),
    "labels of dates": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.zeros(4, "M8[s]"))),
    "labels in columns": archive(arr_0__npy=npy(IMAGES), arr_1__npy=npy(np.zeros((4, 1), int))),
    "an array of another name that lies": archive(arr_0__npy=npy(IMAGES), zzz__npy=npy_header((2**40,))),
    "a negative shape": archive(arr_0__npy=npy_header((-4, 8, 8, 3))),
    "Fortran order": archive(arr_0__npy=npy_header((4, 8, 8, 3), body=bytes(768), fortran=True)),
    "a header of no literal": archive(arr_0__npy=b"\x93NUMPY\x01\x00\x10\x00{__import__('os')}" + bytes(99)),
    "a header cut short": archive(arr_0__npy=b"\x93NUMPY\x01\x00\xff\xff{"),
    "an unknown version": archive(arr_0__npy=b"\x93NUMPY\x09\x00" + bytes(100)),
    "cut in the middle": archive(arr_0__npy=npy(np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)))[:2000],
    "encrypted": encrypted(archive(arr_0__npy=npy(IMAGES))),
    "a name twice": twice(npy(IMAGES)),
    "zeros, compressed": archive(arr_0__npy=npy(np.zeros((4, 999, 999, 3), np.uint8))),
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """(a folder of images, the run of a classifier for them)."""
    from PIL import Image

    from vqgan.classifier import Classifier

    folder = tmp_path_factory.mktemp("reference")
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{i}.png")
    Classifier(channels=3, num_classes=2, width=8).save(
        folder / "classifier.safetensors", {"class_names": ["a", "b"]}
    )
    return folder


def test_an_npz_that_holds_no_images_is_refused_in_a_line(tmp_path, reference, capfd, tally):
    path, passed = tmp_path / "x.npz", 0
    for name, content in NPZ.items():
        path.write_bytes(content)
        status, cost = measured(
            lambda: cli(
                "evaluate", "--samples", path, "--reference", reference / "images", "--out", tmp_path / "out",
                "--features", "classifier", "--weights", reference, "--metrics", "fid",
            )
        )  # fmt: skip
        said = capfd.readouterr().err
        good = status == 2 and said.strip().splitlines()[-1].startswith("maskgit: ") and not cost
        passed += good
        if not good:
            print(name, status, cost, said[-500:])
    tally("npz", passed, len(NPZ))
