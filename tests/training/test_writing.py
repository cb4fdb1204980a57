"""What is saved is written while the next steps run: as it was, one at a time, and never lost."""

import os
import signal
import threading
import time

import pytest
import torch

from maskgit.stopping import Stopped
from maskgit.training import trainer
from maskgit.training.checkpoints import checkpoints, load_latest
from maskgit.training.trainer import Training, train
from maskgit.training.writing import Writing, frozen, in_memory
from tests.training.conftest import changed


def failing():
    raise OSError("no room")


def test_one_save_at_a_time_and_in_turn():
    done, writing, first = [], Writing(), threading.Event()
    writing.begin(first.wait, lambda: done.append(1))
    writing.check()
    assert done == [], "nobody waits for it"
    threading.Timer(0.05, first.set).start()
    writing.begin(lambda: done.append(2), lambda: done.append(3))
    assert done[0] == 1, "the one before it was waited for"
    writing.wait()
    assert done == [1, 2, 3]


@pytest.mark.parametrize("ask", ["wait", "check", "begin", "exit"])
def test_what_a_save_failed_with_is_raised_once_by_whoever_asks(ask):
    done, writing = [], Writing()
    with pytest.raises(OSError, match="no room"), writing:
        writing.begin(failing, lambda: done.append(1))
        while ask == "check":
            writing.check()
        if ask == "begin":
            writing.begin(lambda: done.append(2))
        if ask == "wait":
            writing.wait()
    assert done == [], "what comes after a failure is not done"
    writing.wait()


def test_another_error_is_not_hidden_by_that_of_a_save(capsys):
    done = []
    with pytest.raises(KeyError), Writing() as writing:
        writing.begin(lambda: time.sleep(0.05), lambda: done.append(1), failing)
        raise KeyError
    assert done == [1] and "the last save failed, too: no room" in capsys.readouterr().err


def test_what_is_kept_stays_as_it_was():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    module[1].weight = module[0].bias  # shared, as it stays
    kept, copied = in_memory({"a": module.state_dict()}), frozen(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        for value in module.state_dict().values():
            value.add_(1)
    for name, value in before.items():
        assert torch.equal(kept["a"][name], value)
        assert torch.equal(copied.state_dict()[name], value)
    assert copied[1].weight is copied[0].bias
    assert not any(parameter.requires_grad for parameter in copied.parameters())


@pytest.fixture
def slow(monkeypatch):
    """Saves begin and go on once they are let; -> (that event, the steps made meanwhile)."""
    real, step = trainer.save_checkpoint, Training.one_step
    go, made = threading.Event(), []

    def save(*arguments):
        assert go.wait(60)
        return real(*arguments)

    def one_step(self, parts):
        step(self, parts)
        made.append((self.step, len(checkpoints(self.folder))))
        if self.step == 4:
            go.set()

    monkeypatch.setattr(trainer, "save_checkpoint", save)
    monkeypatch.setattr(Training, "one_step", one_step)
    return made


def test_steps_go_on_meanwhile_and_not_a_bit_is_another(tiny_configs, tmp_path, request):
    own = {"train": {"steps": 6, "save_every": 3, "eval_every": 9, "preview_every": 9}}
    config = changed(tiny_configs[0], **own)
    train(config.model_copy(update={"run": str(tmp_path / "plain")}))
    made = request.getfixturevalue("slow")
    train(config)
    assert (4, 0) in made, "a step was made while the save was on its way"
    for step in ("step_00000003", "step_00000006"):
        runs = [tmp_path / name / "checkpoints" / step for name in ("plain", "vqgan")]
        for path in runs[0].glob("*.safetensors"):
            assert path.read_bytes() == (runs[1] / path.name).read_bytes()


def test_a_stop_waits_for_the_save_on_its_way(tiny_configs, slow, monkeypatch):
    config = changed(
        tiny_configs[0],
        train={"steps": 20, "save_every": 3, "eval_every": 50, "preview_every": 50},
    )
    step = Training.one_step

    def stopped(self, parts):
        step(self, parts)
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "one_step", stopped)
    with pytest.raises(Stopped):
        train(config)
    assert load_latest(trainer.Path(config.run)).step == 5
    assert not any(thread.name == "save" for thread in threading.enumerate())


@pytest.mark.parametrize("step", [3, 6])
def test_a_save_that_fails_ends_the_training(tiny_configs, monkeypatch, step):
    """At the next step, or at the last: with its own error, and what was saved before it."""
    config = changed(
        tiny_configs[0],
        train={"steps": 6, "save_every": 3, "eval_every": 9, "preview_every": 9},
    )
    real = trainer.save_checkpoint

    def full(run, number, *rest):
        if number == step:
            raise OSError(28, "there is no room")
        return real(run, number, *rest)

    monkeypatch.setattr(trainer, "save_checkpoint", full)
    with pytest.raises(OSError, match="there is no room"):
        train(config)
    assert [path.name for path in checkpoints(trainer.Path(config.run))] == ["step_00000003"][: step // 6]  # fmt: skip
