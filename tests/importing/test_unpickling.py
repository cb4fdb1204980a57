"""Files of torch.save: foreign classes are harmless, calls are refused, nothing runs."""

import argparse
import collections
import datetime
import pathlib
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch

from maskgit.importing.unpickling import is_inert, load_torch
from tests.importing.golden import checkpoint
from tests.importing.payloads import Built, Call, Name, as_legacy, as_zip, opcodes, payloads
from tests.importing.payloads import taken_for_objects as swallowed

WRITERS = {"zip": (as_zip, False), "legacy": (as_legacy, True)}
SOMEWHERE = pathlib.Path("somewhere")


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("name", payloads(SOMEWHERE))
def test_a_payload_is_refused_by_name_and_does_not_run(name, written, tmp_path):
    write, legacy = WRITERS[written]
    marker = tmp_path / "marker"
    path = write(tmp_path / "weights.pth", opcodes({"model": payloads(marker)[name]}))
    with pytest.raises(ValueError, match="is refused, and nothing of it was run") as caught:
        load_torch(path, legacy)
    assert f"it asks for {name}, " in str(caught.value)
    assert "\n" not in str(caught.value) and path.is_file()
    assert not marker.exists() and "antigravity" not in sys.modules


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("name", swallowed(SOMEWHERE))
def test_objects_of_foreign_classes_keep_nothing(name, written, tmp_path):
    write, legacy = WRITERS[written]
    marker = tmp_path / "marker"
    path = write(tmp_path / "weights.pth", opcodes({"epoch": 3, "x": swallowed(marker)[name]}))
    tree, names = load_torch(path, legacy)
    assert tree["epoch"] == 3 and names
    assert vars(tree["x"]) == {} and type(tree["x"]).__module__ == "foreign"
    assert not marker.exists()


def test_a_payload_inside_of_a_state_of_a_stand_in_is_refused(tmp_path):
    marker = tmp_path / "marker"
    inner = Built(Call("foreign", "Callback"), {"x": Call("posix", "system", f"touch {marker}")})
    with pytest.raises(ValueError, match=r"posix\.system"):
        load_torch(as_zip(tmp_path / "weights.pth", opcodes({"callbacks": inner})))
    assert not marker.exists()


def test_a_stand_in_is_gone_after_the_file(tmp_path):
    before = torch.serialization.get_safe_globals()
    load_torch(as_zip(tmp_path / "weights.pth", opcodes({"x": Name("foreign", "Callback")})))
    assert {*torch.serialization.get_safe_globals()} == {*before}


def test_too_many_foreign_classes_are_refused(tmp_path):
    many = {i: Name("foreign", f"Class{i}") for i in range(120)}
    with pytest.raises(ValueError, match="more than 100 foreign classes"):
        load_torch(as_zip(tmp_path / "weights.pth", opcodes(many)))


class Callback:
    """As Lightning keeps its own: the class itself is a key."""


class Options(dict):
    """As hyper_parameters of Lightning are kept."""


class Values(list):
    """A list of somebody's."""


@pytest.mark.parametrize("legacy", [False, True])
def test_what_trainers_leave_beside_weights_is_read(legacy, tmp_path, monkeypatch):
    """By torch.save itself, from classes that are gone when it is read."""
    module = types.ModuleType("lightning_like")
    weight = torch.arange(6.0).view(2, 3)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for kind in (Callback, Options, Values):
        setattr(module, kind.__name__, kind)
        monkeypatch.setattr(kind, "__module__", module.__name__)
    whole = {
        "callbacks": {Callback: {"best": torch.ones(1)}, "last": Callback()},
        "hyper_parameters": Options(lr=1e-4, many=Values([1, 2])),
        "args": argparse.Namespace(lr=1e-4, out=pathlib.PurePosixPath("runs")),
        "best": np.float64(0.5),
        "kind": np.dtype("float32"),
        "counts": collections.defaultdict(list, a=[1]),
        "when": datetime.datetime(2024, 1, 2),
        "state_dict": {"weight": weight},
    }
    path = tmp_path / "last.ckpt"
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, module.__name__)
    tree, names = load_torch(path, legacy)
    assert torch.equal(tree["state_dict"]["weight"], weight)
    assert tree["hyper_parameters"] == {"lr": 1e-4, "many": [1, 2]}
    assert {"argparse.Namespace", "lightning_like.Callback"} <= set(names)


def test_a_newer_protocol_is_refused_or_read_without_a_warning(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.ones(2)}, path, pickle_protocol=4)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="does not load"):
        warnings.simplefilter("error")
        load_torch(path)


def test_a_cut_file_of_the_older_format_is_named(tmp_path):
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save({"weight": torch.ones(5000)}, whole, _use_new_zipfile_serialization=False)
    for share in (0.2, 0.5, 0.9):
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(ValueError, match="cut short or damaged, download it again") as caught:
            load_torch(cut, legacy=True)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("system", ["llamagen_vq", "halton_maskgit", "ibq", "valeoai_v1"])
def test_a_golden_file_is_read_as_torch_reads_it(system):
    tree, names = load_torch(checkpoint(system))
    assert names == [] and tree.keys() == torch.load(checkpoint(system), weights_only=True).keys()


@pytest.mark.parametrize("name", ["omegaconf.dictconfig.DictConfig", "builtins.dict", "a._Private"])
def test_classes_may_be_stood_in_for(name):
    assert is_inert(name)


@pytest.mark.parametrize(
    "name",
    ["eval", "subprocess.Popen", "os.PathLike", "a.function", "argparse.Action", "typing.IO"],
)
def test_nothing_else_may(name):
    assert not is_inert(name)


@pytest.mark.parametrize(
    "name", ["commands.Popen", "httplib.HTTPSConnection", "SocketServer.TCPServer"]
)
def test_what_old_protocols_call_by_names_of_python_2_is_refused(name):
    assert not is_inert(name)


def test_a_payload_that_python_itself_writes_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return subprocess.Popen, (["touch", str(tmp_path / "marker")],)

    torch.save({"state_dict": {"w": torch.ones(1)}, "x": Payload()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="is refused, and nothing of it was run"):
        load_torch(tmp_path / "weights.pth")
    assert not (tmp_path / "marker").exists()
