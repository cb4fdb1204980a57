import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from maskgit.config.loading import load, parse, save, to_dict
from maskgit.config.sections import TrainConfig
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training import budget
from maskgit.training.budget import BUDGET, Costs
from maskgit.training.checkpoints import load_latest
from maskgit.training.tasks import TASKS
from maskgit.training.trainer import Stopped, train
from tests.conftest import by_processes, repo
from tests.training.conftest import changed

TRAIN = TrainConfig(eval_every=10, preview_every=20)


@pytest.fixture
def quick(monkeypatch):
    """Steps that are measured in no time; seven are found, whatever the machine does meanwhile."""
    monkeypatch.setattr(budget, "LONGEST", 0.01)
    monkeypatch.setattr(Costs, "steps_in", lambda self, seconds, train: 7)


def by_time(config, minutes, **train):
    """The config by minutes in place of steps."""
    values = to_dict(changed(config, train=train))
    del values["train"]["steps"]
    values["train"]["minutes"] = minutes
    return parse(values, "test")


def same(one, other):
    """Whether two runs' last checkpoints hold the same bits."""
    mine, theirs = (load_latest(Path(run)) for run in (one, other))
    assert mine.step == theirs.step and mine.tensors.keys() == theirs.tensors.keys()
    return all(
        torch.equal(value, theirs.tensors[part][name])
        for part, values in mine.tensors.items()
        for name, value in values.items()
    )


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(0, 1), (6.9, 1), (9.9, 4), (15.0, 10), (17.9, 10), (18.0, 11), (19.9, 11), (20.0, 12)],
)
def test_steps_that_fit_with_what_is_between_them(seconds, steps):
    """Steps of 1 s, of 2 from the twelfth on, an evaluation of 2 s, a preview of 3."""
    costs = Costs(1.0, 2.0, 2.0, 3.0, joins=11)
    assert costs.steps_in(seconds, TRAIN) == steps
    if steps > 1:
        assert costs.seconds(steps, TRAIN) <= seconds < costs.seconds(steps + 1, TRAIN)


def test_a_run_by_time_is_one_of_so_many_steps_bit_for_bit(tiny_configs, tmp_path, quick, capsys):
    """With a discriminator, dropout and a codebook that moves, whatever the rehearsal did."""
    adversarial = {"discriminator": {"name": "patchgan", "width": 8, "num_layers": 1}, "start_step": 3}  # fmt: skip
    vqgan, generator = tiny_configs
    vqgan = changed(vqgan, loss={"adversarial": adversarial})
    for config in (vqgan, generator):
        train(by_time(config, 0.01))
        steps = json.loads((Path(config.run) / BUDGET).read_text())["steps"]
        assert load(Path(config.run) / "config.yaml").train.steps == steps == 7
        other = changed(config, run=f"{config.run}_by_steps", train={"steps": steps})
        train(other)
        assert same(config.run, other.run)
        said = capsys.readouterr().err
        assert f"0.01 minutes hold {steps} steps" in said and said.count("images: ") <= 2
        if config is vqgan:
            tokenize_dataset(vqgan.run, generator.codes)


def test_a_run_that_was_killed_keeps_its_steps_and_ends_with_the_same_bits(
    tiny_configs, tmp_path, quick, monkeypatch, capsys
):
    config = by_time(tiny_configs[0], 0.01)
    kind, update = TASKS["tokenizer"], TASKS["tokenizer"].update

    def stopped_at(step):
        def stopping(self, number, parts):
            if number == step and self.config.train.steps < budget.NO_END:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(self, number, parts)

        monkeypatch.setattr(kind, "update", stopping)

    stopped_at(3)
    with pytest.raises(Stopped, match="at step 4"):
        train(config)
    monkeypatch.setattr(kind, "update", update)
    steps = json.loads((tmp_path / "vqgan" / BUDGET).read_text())["steps"]
    monkeypatch.setattr(budget, "_rehearse", None)  # what was found is kept
    capsys.readouterr()
    train(config)
    assert f"continuing from step 4 of {steps}" in capsys.readouterr().err
    other = changed(tiny_configs[0], run=str(tmp_path / "whole"), train={"steps": steps})
    train(other)
    assert same(config.run, other.run)
    train(by_time(tiny_configs[0], 0.02))
    assert load_latest(Path(config.run)).step == 2 * steps, "other minutes are in proportion"


def test_steps_of_another_model_are_not_taken_over(tiny_configs, tmp_path):
    config, path = by_time(tiny_configs[0], 1), tmp_path / BUDGET
    other = by_time(changed(tiny_configs[0], model={"latent_dim": 8}), 1)
    moved = by_time(changed(tiny_configs[0], run="moved"), 1)
    path.write_text(json.dumps({"minutes": 1, "steps": 7, "of": budget._about(config)}))
    assert budget._kept(path, budget._about(moved)) == (1, 7)
    assert budget._kept(path, budget._about(other)) is None


@pytest.mark.slow
def test_two_processes_make_as_many_steps(tiny_configs, tmp_path):
    config = by_time(tiny_configs[0], 0.1, eval_every=100, save_every=100)
    path = tmp_path / "config.json"
    values = to_dict(config)
    del values["train"]["steps"]
    path.write_text(json.dumps(values))
    by_processes(2, repo() / "tests" / "training" / "train_driver.py", path)
    steps = json.loads((tmp_path / "vqgan" / BUDGET).read_text())["steps"]
    assert load_latest(tmp_path / "vqgan").step == steps


def test_compiling_is_decided_by_the_time(accelerator_of):
    auto, gpu, cpu = TrainConfig(), accelerator_of("meta"), accelerator_of("cpu")
    assert not budget._is_compiled(auto, 5, gpu) and budget._is_compiled(auto, 30, gpu)
    assert not budget._is_compiled(auto, 30, cpu)
    assert not budget._is_compiled(TrainConfig(shard=True), 30, gpu)
    assert budget._is_compiled(TrainConfig(compile=True), 1, cpu)


@pytest.fixture
def accelerator_of():
    """An accelerator of a kind of device, as far as it is asked for."""
    return lambda kind: SimpleNamespace(device=torch.device(kind))


def test_steps_and_minutes_are_one_or_the_other(tmp_path, tiny_configs):
    path = tmp_path / "config.yaml"
    save(tiny_configs[0], path)  # has train.steps: 6
    by_minutes = load(path, ["train.minutes=2"]).train
    assert by_minutes.length == "2 minutes" and by_minutes.minutes == 2
    assert load(path, ["train.minutes=null"]).train.length == "6 steps"
    with pytest.raises(ValueError, match="on the command line: train: steps and minutes are both"):
        load(path, ["train.minutes=2", "train.steps=5"])
    path.write_text("task: tokenizer\ntrain: {minutes: 3}\n")
    assert load(path).train.minutes == 3
    assert load(path, ["train.steps=5"]).train.length == "5 steps"
    path.write_text("task: tokenizer\ntrain: {minutes: 3, steps: 4}\n")
    with pytest.raises(ValueError, match=r"config.yaml: train: steps and minutes are both given"):
        load(path)
    with pytest.raises(ValueError, match="train.minutes"):
        load(path, ["train.minutes=0"])
