"""What a file is, by its content; what a wrong one looks like, and what to do."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from maskgit.importing.containers import container_of
from tests.importing.golden import SYSTEMS, checkpoint

KINDS = {".safetensors": "safetensors", ".pth": "torch", ".bin": "torch", ".ckpt": "torch"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_golden_files_are_told_without_their_names(system, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(checkpoint(system).read_bytes())
    known = {**KINDS, ".pt": "torch", "": "msgpack"}
    assert container_of(path) == known[checkpoint(system).suffix]


def test_the_format_before_torch_1_6_is_told(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save({"weight": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    assert container_of(path) == "torch legacy"


def torch_file(**options):
    out = io.BytesIO()
    torch.save({"weight": torch.ones(100)}, out, **options)
    return out.getvalue()


def zipped(names, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name in names:
            archive.writestr(name, "x" * 100)
    return out.getvalue()


def tarred():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return out.getvalue()


def array():
    out = io.BytesIO()
    np.save(out, np.ones(3))
    return out.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 284000000\n"
WRONG = {
    "is empty: download it again": b"",
    "Git LFS pointer, not the file itself: run `git lfs pull`": POINTER,
    "web page, as a failed download leaves it: download": b"\n<!DOCTYPE html><html><body>Sign in",
    "web page, as": b"<HTML>404",
    "XML text, as a refused download leaves it": b'<?xml version="1.0"?><Error>AccessDenied',
    "JSON text, not weights: give the file": b'{"error": "Repository not found", "code": 404}',
    "JSON text": b"[1, 2]",
    "text, not weights": b"Access to model is restricted. You must be logged in.",
    "a compressed file: unpack it first": gzip.compress(b"weights"),
    "a tar archive: unpack it first": tarred(),
    "HDF5, as Keras writes it": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "an array of numpy": array(),
    "GGUF: give": b"GGUF\x03\x00\x00\x00",
    "a pickle that torch.save did not write": b"\x80\x04\x95\x0a\x00\x00\x00.",
    "safetensors, cut short in its header": save({"weight": torch.ones(3)})[:30],
    "cut short or damaged: a torch file without its end": torch_file()[:-200],
    "a TorchScript program": zipped(["net/data.pkl", "net/constants.pkl"]),
    "a zip archive, not weights": zipped(["weights.pth"]),
    "a torch file compressed anew": zipped(["net/data.pkl"], zipfile.ZIP_DEFLATED),
    "no weights file that is known .* begins with 00 01 02": b"\x00\x01\x02" * 100,
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_file_is_named_in_one_line(line, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(WRONG[line])
    with pytest.raises(ValueError, match=line) as caught:
        container_of(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
