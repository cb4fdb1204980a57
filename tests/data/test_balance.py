"""A balanced order against what it promises: shares, fair turns, and nothing but the seed."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.data.balance import BALANCES, Balanced, quotas
from maskgit.data.order import StepOrder
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training.trainer import Training, train
from tests.training.conftest import changed
from vqgan.weights import load_weights

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def labelled(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels)


@given(COUNTS, st.sampled_from(sorted(BALANCES)))
def test_an_epoch_is_as_long_as_before_and_has_the_share_of_each_class(counts, balance):
    counts = np.array(counts)
    found = quotas(counts, balance)
    weights = {"sqrt": counts**0.5, "uniform": np.ones(len(counts))}[balance]
    assert found.sum() == counts.sum() and found.min() >= 1
    assert np.abs(found - weights / weights.sum() * counts.sum()).max() < 1
    labels = labelled(counts)
    indices, _ = Balanced(labels, balance, 3).epoch(5)
    assert np.array_equal(np.bincount(labels[indices], minlength=len(counts)), found)


@given(COUNTS, st.sampled_from(sorted(BALANCES)), st.integers(0, 3))
@settings(deadline=None)
def test_no_image_comes_again_before_all_others_of_its_class_have(counts, balance, seed):
    labels = labelled(counts)
    order = Balanced(labels, balance, seed)
    drawn, pairs = Counter(), []
    for epoch in range(4):
        indices, passes = order.epoch(epoch)
        drawn.update(indices.tolist())
        pairs += zip(indices.tolist(), passes.tolist(), strict=True)
        for label in range(len(counts)):
            times = [drawn[i] for i in np.flatnonzero(labels == label).tolist()]
            assert max(times) - min(times) <= 1
    assert len(set(pairs)) == len(pairs), "each return is augmented anew"


def test_the_order_is_shuffled_and_another_for_each_epoch_and_seed():
    labels = labelled([300, 30])
    first = Balanced(labels, "uniform", 0).epoch(0)[0]
    assert abs(np.mean(labels[first[:165]]) - 0.5) < 0.15
    for other in (
        Balanced(labels, "uniform", 1).epoch(0)[0],
        Balanced(labels, "uniform", 0).epoch(1)[0],
    ):
        assert (other != first).mean() > 0.5
    assert np.array_equal(Balanced(labels, "uniform", 0).epoch(0)[0], first)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 3), (3, 2)])
def test_steps_are_the_same_in_any_number_of_processes_and_from_any_start(world, accumulate):
    labels = labelled([20, 3, 9])
    how = {"seed": 4, "balance": Balanced(labels, "sqrt", 4)}
    whole = list(StepOrder(32, 12, start=0, stop=9, **how))
    assert list(StepOrder(32, 12, start=5, stop=9, **how)) == whole[5:]
    ranks = [
        list(StepOrder(32, 12, start=0, stop=9, rank=r, world=world, accumulate=accumulate, **how))
        for r in range(world)
    ]
    for step, wanted in enumerate(whole):
        parts = [rank[step * accumulate : (step + 1) * accumulate] for rank in ranks]
        assert sorted(key for rank in parts for part in rank for key in part) == sorted(wanted)


def test_attributes_are_no_classes():
    with pytest.raises(ValueError, match="balance is of classes: this source has attributes"):
        Balanced(np.zeros((4, 2), dtype=np.int64), "sqrt", 0)


@pytest.mark.parametrize("task", ["tokenizer", "maskgit"])
def test_a_balanced_run_that_was_stopped_ends_with_the_same_bits(
    task, tiny_configs, image_folder, tmp_path, monkeypatch
):
    for path in sorted((image_folder / "train" / "coat").glob("*.png"))[2:]:
        path.unlink()  # 12 bags, 2 coats
    vqgan, generator = tiny_configs
    config = changed(vqgan, data={"balance": "uniform"})
    if task == "maskgit":
        train(vqgan)
        tokenize_dataset(vqgan.run, generator.codes)
        config = changed(generator, balance="uniform")
    seen = []
    step = Training.one_step

    def one_step(self, parts):
        seen.append(parts[0].labels)
        if len(seen) == 5:
            raise RuntimeError("the machine fails")
        step(self, parts)

    monkeypatch.setattr(Training, "one_step", one_step)
    with pytest.raises(RuntimeError, match="the machine fails"):
        train(config)
    stopped = train(config)
    again = changed(config, run=str(tmp_path / "again"))
    seen = [torch.empty(0)] * 10
    weights = [
        path / "model.safetensors" if path.is_dir() else path for path in (stopped, train(again))
    ]
    one, other = (load_weights(path, task)[1] for path in weights)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert torch.cat(seen[10:]).float().mean() == pytest.approx(0.5, abs=0.05), "2 of 14 otherwise"
