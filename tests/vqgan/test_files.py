import os
import resource
import signal

import pytest
import torch
from safetensors.torch import save_file

from vqgan.files import append, clean, replacing, sha256


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as aside:
        aside.write_text("half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


def test_sha256_of_nothing(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")


def write_tensors(path):
    save_file({"a": torch.zeros(100_000)}, path)


def write_bytes(path):
    path.write_bytes(bytes(400_000))


@pytest.mark.parametrize("write", [write_tensors, write_bytes])
def test_where_there_is_no_room_one_line_names_the_file(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("old")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{path} cannot be written"), replacing(path) as aside:
            write(aside)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and path.read_text() == "old"


def test_a_line_that_finds_no_room_names_its_file(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, "first")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{path} cannot be written"):
            append(path, "another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_text().startswith("first\n")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("write", [write_tensors, write_bytes])
def test_files_have_the_mode_of_the_umask(tmp_path, mask, write):
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "a") as aside:
            write(aside)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_kills_left_is_removed_and_nothing_else(tmp_path):
    for name in (".tmp-a.png", ".tmpAb12Cd", ".tmp_mine", ".tmpdir-of-mine", "a.png"):
        (tmp_path / name).touch()
    (tmp_path / ".tmp-step_1").mkdir()
    (tmp_path / ".tmp-step_1" / "a").touch()
    clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tmp_mine", ".tmpdir-of-mine", "a.png"]
