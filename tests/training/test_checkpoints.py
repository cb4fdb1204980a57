import pytest
import torch

from maskgit.training.checkpoints import (
    checkpoints,
    clean,
    find_latest,
    load_latest,
    save_checkpoint,
)


def save(run, step, keep=2):
    return save_checkpoint(
        run, step, {"a.module": {"x": torch.full((3,), float(step))}}, {"note": step}, keep
    )


def test_the_newest_is_loaded_and_old_ones_are_pruned(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert [p.name for p in checkpoints(tmp_path)] == ["step_00000010", "step_00000015"]
    found = load_latest(tmp_path)
    assert found.step == 15 and found.state["note"] == 15
    assert found.tensors["a.module"]["x"].tolist() == [15.0] * 3


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


BREAKS = {
    "does not match its sha256": lambda folder: flip_a_bit(folder / "a.module.safetensors"),
    "is missing": lambda folder: (folder / "a.module.safetensors").unlink(),
    "its manifest cannot be read": lambda folder: (folder / "manifest.json").write_text("{"),
}


@pytest.mark.parametrize("reason", BREAKS)
def test_a_broken_checkpoint_is_skipped_with_the_reason(tmp_path, capsys, reason):
    save(tmp_path, 5)
    BREAKS[reason](save(tmp_path, 10))
    assert load_latest(tmp_path).step == 5
    error = capsys.readouterr().err
    assert "skipped the checkpoint" in error and "step_00000010" in error and reason in error


def test_a_broken_checkpoint_is_written_again(tmp_path):
    BREAKS["is missing"](save(tmp_path, 10))
    save(tmp_path, 10)
    assert load_latest(tmp_path).step == 10


def test_leftovers_are_removed(tmp_path):
    leftover = tmp_path / "checkpoints" / ".tmp-step_00000005"
    leftover.mkdir(parents=True)
    clean(tmp_path)
    assert not leftover.exists() and load_latest(tmp_path) is None


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    assert {p.suffix for p in save(tmp_path, 1).iterdir()} == {".json", ".safetensors"}


def test_pruning_never_takes_the_new_one_for_a_broken_one(tmp_path):
    for step in (5, 30):
        save(tmp_path, step)
    BREAKS["is missing"](tmp_path / "checkpoints" / "step_00000030")
    save(tmp_path, 10, keep=1)
    assert [p.name for p in checkpoints(tmp_path)] == ["step_00000010"] and load_latest(
        tmp_path
    ).step == 10


def test_where_none_can_be_read_nothing_is_started_anew(tmp_path, capsys):
    for step in (5, 10):
        BREAKS["is missing"](save(tmp_path, step))
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints of .* can be read"):
        load_latest(tmp_path)
    assert capsys.readouterr().err.count("skipped the checkpoint") == 2
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "I/O error")]
)
def test_what_cannot_be_looked_at_is_not_called_broken(tmp_path, monkeypatch, error):
    for step in (5, 10):
        save(tmp_path, step)

    def refused(path):
        raise error

    monkeypatch.setattr("maskgit.training.checkpoints.sha256", refused)
    with pytest.raises(OSError, match=error.strerror):
        load_latest(tmp_path)
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.parametrize("manifest", ["{}", "[]", "null", "[" * 100_000])
def test_a_manifest_that_names_nothing_proves_nothing(tmp_path, manifest):
    save(tmp_path, 5)
    (save(tmp_path, 10) / "manifest.json").write_text(manifest)
    assert load_latest(tmp_path).step == 5


def test_a_whole_checkpoint_that_does_not_suit_is_passed_over_and_not_called_unreadable(tmp_path):
    for step in (5, 10):
        save(tmp_path, step)
    assert find_latest(tmp_path, lambda state: state["note"] == 5).name == "step_00000005"
    assert find_latest(tmp_path, lambda state: False) is None
