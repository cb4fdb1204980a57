import multiprocessing
import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.data.datasets import Batch, ImageDataset, Quarantine, TooManyCorruptError
from maskgit.data.order import StepOrder, batches, in_order
from maskgit.data.pixels import Transform
from maskgit.data.sources import load_source


@given(
    st.integers(1, 50), st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (3, 2)]), st.integers(0, 5), st.integers(0, 9)
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_step_sees_the_same_images_for_any_number_of_processes(num_items, split, start, seed):
    world, accumulate = split
    whole = list(StepOrder(num_items, 12, seed=seed, start=start, stop=start + 3))
    per_rank = [
        list(
            StepOrder(
                num_items,
                12,
                seed=seed,
                start=start,
                stop=start + 3,
                rank=r,
                world=world,
                accumulate=accumulate,
            )
        )
        for r in range(world)
    ]
    for step in range(3):
        parts = [
            key
            for rank in per_rank
            for part in rank[step * accumulate : (step + 1) * accumulate]
            for key in part
        ]
        assert sorted(parts) == sorted(whole[step]) and len(parts) == 12


def test_an_epoch_sees_every_image_once_and_resumes_in_its_middle():
    order = [key for part in StepOrder(10, 4, seed=1, start=0, stop=5) for key in part]
    for epoch in (0, 1):
        assert sorted(index for index, e in order if e == epoch) == list(range(10))
    later = [key for part in StepOrder(10, 4, seed=1, start=3, stop=5) for key in part]
    assert later == order[12:]


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="must divide by 2 processes x accumulate=3"):
        StepOrder(10, 8, seed=0, start=0, stop=1, world=2, accumulate=3)


def test_evaluation_sees_every_image_once():
    keys = [
        key
        for rank in range(3)
        for part in in_order(range(10), 2, rank=rank, world=3)
        for key in part
    ]
    assert sorted(keys) == [(i, 0) for i in range(10)]


class Broken:
    """A dataset whose second batch cannot be read."""

    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 4

    def __getitems__(self, keys):
        if keys[0][0]:
            self.fail()
        return Batch(torch.zeros(1), torch.zeros(1))


def corrupt():
    raise TooManyCorruptError("9 of 10 images are corrupt")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_says_what_it_would_without_workers(workers):
    loader = batches(Broken(corrupt), [[(0, 0)], [(1, 0)]], workers=workers)
    next(loader)
    with pytest.raises(TooManyCorruptError) as error:
        next(loader)
    assert str(error.value) == "9 of 10 images are corrupt"


def test_a_killed_worker_is_one_line():
    dataset = Broken(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildProcessError, match="a data worker was killed"):
        list(batches(dataset, [[(1, 0)]] * 3, workers=1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_worker_leaves_a_signal_to_its_parent(number):
    """As of Ctrl-C, which a terminal sends to the whole group."""
    dataset = Broken(lambda: os.kill(os.getpid(), number))
    assert len(list(batches(dataset, [[(1, 0)]] * 2, workers=1))) == 2


@pytest.fixture
def spawned():
    """Workers begin as on macOS and from Python 3.14 on: with what is pickled for them."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.usefixtures("spawned")
def test_workers_that_are_spawned_see_the_same_images(image_folder):
    source = load_source({"name": "folder", "root": str(image_folder)}, "train")
    dataset = ImageDataset(source, Transform(16, 1), augment=True, quarantine=Quarantine())
    order = list(StepOrder(len(dataset), 4, seed=0, start=0, stop=3))
    here, there = (list(batches(dataset, order, workers=workers)) for workers in (0, 1))
    assert all(torch.equal(a.data, b.data) for a, b in zip(here, there, strict=True))
