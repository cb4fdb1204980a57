"""train.shard: two processes hold half of a model each, and train the same one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskgit.config.loading import parse, to_dict
from maskgit.config.sections import TrainConfig
from maskgit.data.tokenization import tokenize_dataset
from maskgit.pipeline.pipeline import Pipeline
from maskgit.training.checkpoints import load_latest
from maskgit.training.compiling import is_compiled
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train
from tests.conftest import by_processes, repo
from tests.training.conftest import changed
from tests.training.test_resume import drive
from vqgan.weights import load_weights


@pytest.fixture
def generator(tiny_configs):
    """The config of a generator of which all is equal on any number of processes."""
    vqgan, generator = tiny_configs
    train(changed(vqgan, train={"steps": 2}))
    tokenize_dataset(vqgan.run, generator.codes)
    return changed(generator, model={"dropout": 0.0, "depth": 2, "dim": 15}, train={"log_every": 1})


def by_two(tmp_path, *configs):
    paths = [tmp_path / f"{number}.json" for number in range(len(configs))]
    for path, config in zip(paths, configs, strict=True):
        path.write_text(json.dumps(to_dict(config)))
    by_processes(2, str(repo() / "tests" / "training" / "train_driver.py"), *paths)


def rows(config, key):
    return [r[key] for r in read_metrics(Path(config.run) / "metrics.jsonl") if key in r]


def sharded(config, **train):
    return changed(config, run=config.run + "-sharded", train={"shard": True} | train)


def assert_alike(one, other, error=1e-4):
    """The losses, norms and metrics of two runs, all that they saved, and what they draw."""
    for key in ("loss", "gradient_norm", "validation_loss", "bits_per_code"):
        assert rows(one, key) == pytest.approx(rows(other, key), rel=error), key
    mine, theirs = (load_latest(Path(config.run)) for config in (one, other))
    assert mine.step == theirs.step and mine.tensors.keys() == theirs.tensors.keys()
    for file, tensors in theirs.tensors.items():
        assert mine.tensors[file].keys() == tensors.keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                mine.tensors[file][name], tensor, rtol=10 * error, atol=error
            )
    for rank in range(2):
        drawn = [Pipeline.from_pretrained(c.run).generate([rank], [0])[0] for c in (one, other)]
        assert np.abs(np.subtract(*map(np.int16, drawn))).max() <= 1


VARIANTS = {
    "plain": {},
    "in parts of bf16": {"train": {"accumulate": 2, "precision": "bf16"}},
    "self-conditioned, with a critic of its own": {
        "loss": {"self_cond": True, "self_token_critic": True},
        "model": {"positions": "rotary"},
    },
    "with a token critic": {"critic": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}},
}


def test_a_training_in_shards_is_the_same_training(tmp_path, generator):
    pairs = []
    for number, sections in enumerate(VARIANTS.values()):
        plain = changed(generator, run=f"{generator.run}-{number}", **sections)
        pairs.append((plain, sharded(plain)))
    train(generator)
    critic = parse(
        {"task": "critic", "generator": generator.run, "run": f"{generator.run}-critic"}
        | {key: to_dict(generator)[key] for key in ("codes", "model", "train")},
        "critic",
    )
    pairs.append((critic, sharded(critic)))
    by_two(tmp_path, *(config for pair in pairs for config in pair))
    for name, (plain, other) in zip([*VARIANTS, "a critic"], pairs, strict=True):
        assert_alike(other, plain, 0.02 if "bf16" in name else 1e-4)


def test_each_of_two_processes_holds_half_of_all(tmp_path):
    driver = str(repo() / "tests" / "training" / "shards_driver.py")
    assert json.loads(by_processes(2, driver).splitlines()[-1]) == []


def test_a_run_goes_on_in_shards_and_out_of_them_and_on_other_numbers_of_processes(
    tmp_path, generator
):
    still = {"final_share": 1.0}
    whole = changed(generator, train=still)
    train(whole)

    def part(name, steps, **options):
        return changed(whole, run=f"{whole.run}-{name}", train={"steps": steps} | options)

    first = {"shard": {"shard": True}, "ddp": {}}
    begun_by_two = [part(f"from-{name}", 3, **options) for name, options in first.items()]
    for name in first:
        train(part(f"to-{name}", 3))
    ended_by_two = [part(f"to-{name}", 6, **options) for name, options in first.items()]
    started = sharded(whole, steps=1, learning_rate=1e-30, weight_decay=0.0)
    by_two(tmp_path, *begun_by_two, *ended_by_two, changed(started, init_from=whole.run))
    for name in first:
        train(part(f"from-{name}", 6))
        for way in ("from", "to"):
            assert_alike(part(f"{way}-{name}", 6), whole)
    mine, theirs = (
        load_weights(Path(c.run) / "pipeline" / "model.safetensors", "maskgit")[1]
        for c in (started, whole)
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_alone_a_process_holds_all(generator):
    train(generator)
    other = sharded(generator)
    train(other)
    mine, theirs = (load_latest(Path(config.run)).tensors for config in (other, generator))
    for file, tensors in theirs.items():
        assert all(torch.equal(mine[file][name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("task", ["tokenizer", "classifier"])
def test_what_fits_a_card_is_refused(task):
    with pytest.raises(ValueError, match="train.shard: for generators and critics only"):
        parse({"task": task, "train": {"shard": True}}, "test")


def test_a_step_in_shards_is_not_compiled(generator):
    with pytest.raises(ValueError, match="train.shard=true: such a step is not compiled"):
        train(sharded(generator, compile=True))
    long = TrainConfig(shard=True, steps=100_000)
    assert not is_compiled(long, torch.device("meta"))
    assert is_compiled(long.model_copy(update={"shard": False}), torch.device("meta"))


def test_where_a_process_is_killed_the_last_checkpoint_counts(tmp_path, generator):
    """No other one has what it held."""
    found = drive(tmp_path, sharded(generator), "one", script="lost_driver.py")
    assert found["victim"] == -9 and found["status"] in (2, -15) and found["seconds"] < 10, found
    assert found["steps"] == ["step_00000002"]
    assert "at step 3: step 2 is saved, the same command goes on" in found["said"], found["said"]
    assert found["again"]["status"] == 0 and found["end"] == "step_00000006"
