from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from maskgit.data.datasets import Batch
from maskgit.training.averages import Averages, shared_batches


class Numbers:
    """A data set whose image i is the number i."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitems__(self, keys):
        return Batch(
            torch.tensor([index for index, _ in keys]), torch.zeros(len(keys), dtype=torch.int64)
        )


def seen(world, length=730, most=10_000):
    """Of all processes together: number -> images."""
    ranks = [SimpleNamespace(process_index=rank, num_processes=world) for rank in range(world)]
    return {
        n: batch.data.tolist()
        for rank in ranks
        for n, batch in shared_batches(Numbers(length), most, rank)
    }


@pytest.mark.parametrize("world", [1, 2, 3, 16])
def test_every_image_is_seen_once_and_a_batch_has_its_number_whoever_sees_it(world):
    found = seen(world)
    assert found == seen(1) and sorted(found) == list(range(8))
    assert [image for number in range(8) for image in found[number]] == list(range(730))


def test_no_more_images_than_asked_for_from_everywhere():
    [first, second] = seen(1, length=1000, most=150).values()
    assert (len(first), len(second)) == (100, 50) and second[-1] > 990


def test_means_are_over_values_and_not_over_batches():
    averages = Averages(Accelerator(cpu=True), "loss", "bits", "nothing")
    averages.add("loss", torch.tensor(2.0) * 3, 3)
    averages.add("loss", torch.tensor(4.0), 1)
    averages.add("bits", torch.tensor(5.0, dtype=torch.float64), 2)
    found = averages.means()
    assert list(found) == ["loss", "bits", "nothing"]
    assert found["loss"] == 2.5 and found["bits"] == 2.5 and found["nothing"] != found["nothing"]


def test_many_small_values_are_not_lost_beside_a_large_one():
    averages = Averages(Accelerator(cpu=True), "loss")
    averages.add("loss", torch.tensor(1e8), 1)
    for _ in range(10):
        averages.add("loss", torch.tensor(1.0), 1)
    assert averages.means()["loss"] == pytest.approx((1e8 + 10) / 11, rel=1e-15)
