"""What is drawn at random in a step: by streams of its own for each purpose, process and place."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from maskgit import randomness
from maskgit.config.loading import parse, to_dict
from maskgit.data import datasets
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training import trainer
from maskgit.training.launch import make_accelerator
from maskgit.training.trainer import Training, train
from tests.training.conftest import changed
from tests.training.test_adversary import EVERYTHING

KEYS = ("order", "view")
"""Mixed once for many: of what a key is asked with, there are draws of their own."""


@pytest.fixture
def asked(monkeypatch):
    """How often each (purpose, *place) was asked for, of all streams."""
    real, found = randomness.mixed_seed, Counter()

    def noting(*place):
        found[place] += 1
        return real(*place)

    for user in (randomness, trainer, datasets):
        monkeypatch.setattr(user, "mixed_seed", noting)
    return found


def process(monkeypatch, rank, world):
    """This process takes the part of one of many."""
    monkeypatch.setattr(Accelerator, "process_index", property(lambda _: rank))
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda _: world))


def step_of(config):
    """Of a training that has begun anew: one step, and a validation."""
    training = Training(config, make_accelerator(config.train, Path(config.run)))
    parts = trainer.batches(training.task.dataset, training.order)
    training.one_step([next(parts) for _ in range(config.train.accumulate)])
    training.task.evaluate()


def configs_of(tiny_configs):
    """Of every task that draws in a step, with all that it draws; the codes are made."""
    vqgan, generator = tiny_configs
    train(changed(vqgan, train={"steps": 2}))
    tokenize_dataset(vqgan.run, generator.codes)
    values = to_dict(vqgan)
    values["loss"]["adversarial"] = EVERYTHING | {"start_step": 0}
    judge = {"task": "classifier", "data": values["data"], "model": {"width": 8}}
    judge |= {"train": values["train"], "run": vqgan.run + "-judge"}
    own = {"self_cond": True, "no_replace_prob": 0.1}
    return {
        "tokenizer": parse({**values, "run": vqgan.run + "-new"}, "test"),
        "maskgit": changed(generator, train={"accumulate": 2}, loss=own),
        "classifier": parse(judge, "test"),
    }


@pytest.mark.parametrize("task", ["tokenizer", "maskgit", "classifier"])
def test_no_two_places_of_a_step_draw_from_one_stream(tiny_configs, monkeypatch, asked, task):
    config = configs_of(tiny_configs)[task]
    asked.clear()
    of_ranks = []
    for rank in range(2):
        process(monkeypatch, rank, 2)
        step_of(changed(config, run=f"{config.run}-{rank}"))
        of_ranks.append(Counter(asked))
        asked.clear()
    once = {place: count for found in of_ranks for place, count in found.items()}
    assert {place for place, count in once.items() if place[0] not in KEYS and count > 1} == set()
    monkeypatch.undo()
    seeds = {randomness.mixed_seed(*place) for place in once}
    assert len(seeds) == len(once)
    own = [{place for place in found if place[0] == "dropout"} for found in of_ranks]
    assert own[0] and own[1] and not own[0] & own[1], "each process has its own dropout"


def test_every_cell_is_hidden_as_often_as_another_at_any_t(tiny_configs, monkeypatch):
    """In batches of one image, the first cell was hidden whenever t was below .5."""
    plain = {"self_cond": False, "no_replace_prob": 0.0}
    train = {"batch_size": 1, "accumulate": 1}
    config = changed(configs_of(tiny_configs)["maskgit"], train=train, loss=plain)
    training = Training(config, make_accelerator(config.train, Path(config.run)))
    task, hidden = training.task, []
    module, embed = task.main.module, task.main.module.embed

    def seeing(inputs, *rest, **conditioning):
        hidden.append((inputs == module.mask_id).flatten())
        return embed(inputs, *rest, **conditioning)

    monkeypatch.setattr(module, "embed", seeing)
    for key in range(400):
        task.update(key, [task.dataset.__getitems__([(key % len(task.dataset), 0)])])
    found = torch.stack(hidden).double()
    share = found.mean(1)
    for part in (share < 0.5, share >= 0.5):
        expected, variance = share[part].sum(), (share[part] * (1 - share[part])).sum()
        far = (found[part].sum(0) - expected).abs() / variance.sqrt()
        assert part.sum() > 50 and far.max() < 4.5, far
