"""Tensors of published files: every container, folders, one line for what is wrong."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from maskgit.importing import Foreign, read_tensors
from tests.conftest import repo
from tests.importing.golden import SYSTEMS, checkpoint, golden
from tests.importing.test_msgpack import packed

WEIGHTS = {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3, dtype=torch.float16)}


def older(tensors, path):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def flax(tensors, path):
    path.write_bytes(packed({"params": tensors}))


WRITERS = {
    "safetensors": save_file,
    "torch": torch.save,
    "wrapped": lambda tensors, path: torch.save({"model": tensors, "steps": 3}, path),
    "legacy": older,
    "flax": flax,
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("container", WRITERS)
def test_every_container_is_read_whatever_its_name(container, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    WRITERS[container](WEIGHTS, path)
    found = read_tensors(path)
    assert isinstance(found, Foreign) and found.path == path and found.config == {}
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.wrapper == {"wrapped": "model", "flax": "params"}.get(container)
    assert found.tensors.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert (
            torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype
        )


@pytest.mark.parametrize("system", SYSTEMS)
def test_golden_files_are_read(system):
    found = read_tensors(str(checkpoint(system)))
    assert found.tensors and all(type(tensor) is torch.Tensor for tensor in found.tensors.values())
    assert not any("model_ema" in name for name in found.tensors)
    assert bool(found.config) == system.startswith("titok")


@pytest.mark.parametrize("system", ["ibq", "open_magvit2"])
def test_averages_are_used(system):
    """The plain ones of these two golden files are zeros."""
    found = read_tensors(checkpoint(system)).tensors
    assert not any((value == 0).all() for name, value in found.items() if name.endswith("weight"))


def test_a_folder_of_the_hub_is_its_model_and_config():
    """Other files lie beside it in the golden folder."""
    folder = golden("titok_imagebert")
    found = read_tensors(folder)
    assert found.path == folder / "model.safetensors"
    assert found.config == json.loads((folder / "config.json").read_text())
    assert found.tensors.keys() == load_file(folder / "model.safetensors").keys()


def test_a_folder_with_one_file_of_weights_is_that_file(tmp_path):
    torch.save(WEIGHTS, tmp_path / "weights.pth")
    (tmp_path / "README.md").write_text("# weights of somebody")
    (tmp_path / "config.json").write_text('{"heads": 4}')
    found = read_tensors(tmp_path)
    assert found.path == tmp_path / "weights.pth" and found.config == {"heads": 4}


def test_a_folder_of_several_lists_them(tmp_path):
    for name in ("a.pth", "b"):
        torch.save(WEIGHTS, tmp_path / name)
    with pytest.raises(ValueError, match=r"should hold one file of weights; .*\(there: a.pth, b\)"):
        read_tensors(tmp_path)


def test_a_folder_of_none_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"\(there: none\)"):
        read_tensors(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*nothing"):
        read_tensors(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_config_that_is_none_is_named(text, tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json (is no JSON|should hold names)"):
        read_tensors(tmp_path)


class Net(torch.nn.Module):
    """A whole module, pickled as some do."""


FLAWS = {
    "is complex": torch.ones(2, dtype=torch.complex64),
    "is sparse": torch.eye(3).to_sparse(),
    "is without values": torch.ones(2, device="meta"),
    "holds nan or inf": torch.tensor([1.0, float("nan")]),
    "holds nan or inf: download": torch.tensor([1.0, -float("inf")], dtype=torch.bfloat16),
    "holds nan or inf: .*, or mend": torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn),
    "exceeds its file": torch.ones(1).expand(1_000_000),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_tensors_that_no_net_holds_are_named(flaw, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"good": torch.ones(2), "odd.weight": FLAWS[flaw]}, path)
    with pytest.raises(ValueError, match=f"weights.pth: the tensor 'odd.weight' .*{flaw}"):
        read_tensors(path)


def test_gradients_are_left_behind(tmp_path):
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "a.pth")
    (tensor,) = read_tensors(tmp_path / "a.pth").tensors.values()
    assert not tensor.requires_grad and type(tensor) is torch.Tensor


def test_empty_tensors_and_float8_are_read(tmp_path):
    tensors = {"none": torch.ones(0, 3), "small": torch.ones(2).to(torch.float8_e5m2)}
    torch.save(tensors, tmp_path / "a.pth")
    found = read_tensors(tmp_path / "a.pth").tensors
    assert found["none"].shape == (0, 3) and found["small"].dtype == torch.float8_e5m2


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([torch.ones(2)], "holds a list, not tensors by name"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "no tensors by name, but epoch, args$"),
        ({}, "no tensors by name, but nothing"),
        ({"a": torch.ones(1), "module.a": torch.ones(1)}, "two tensors are named 'a'"),
        ({"net": Net()}, "objects of tests.importing.test_reading.Net: a whole model was pickled"),
    ],
)
def test_a_file_without_weights_is_named(value, line, tmp_path):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=line) as caught:
        read_tensors(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("container", WRITERS)
def test_a_cut_file_is_named_in_one_line(container, tmp_path):
    path = tmp_path / "weights"
    WRITERS[container]({"a": torch.randn(1000)}, path)
    data = path.read_bytes()
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match=r"cut short.*download it again") as caught:
            read_tensors(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


PEAK = """
import resource, sys, torch
from maskgit.importing import read_tensors
from maskgit.importing.msgpack import load_msgpack
from maskgit.importing.reading import sha256_of
status = lambda name: next(int(line.split()[1]) * 1024 for line in open("/proc/self/status")
                           if line.startswith(name))
before = status("VmRSS")
found = read_tensors(sys.argv[1])
print(status("VmHWM") - before, sum(t.numel() * t.element_size() for t in found.tensors.values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("container", ["safetensors", "torch", "legacy", "flax"])
def test_a_file_is_not_held_twice(container, tmp_path):
    """The peak of the whole process, above what it takes to begin with, is under 1.3 of the file."""
    path = tmp_path / "weights"
    sizes = [40, 40, 20]
    tensors = {f"layer{i}": torch.ones(size, 1 << 18) for i, size in enumerate(sizes)}
    if container == "flax":
        tensors = {name: np.ones((size, 1 << 18), np.float32) for name, size in zip(tensors, sizes, strict=True)}  # fmt: skip
    WRITERS[container](tensors, path)
    del tensors
    words = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(words, cwd=repo(), capture_output=True, text=True, check=True)
    path.unlink()
    peak, held = map(int, done.stdout.split())
    assert held == sum(sizes) << 20
    assert peak < 1.3 * held
