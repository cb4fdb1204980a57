import pytest
import torch

from maskgit.samplers.conditions import batch_of, each, joined, leaves, numbers, some, where

LABELS = torch.tensor([3, 0, 3, 1])
TWO = {"class": LABELS, "of": {"light": torch.tensor([0.5, 0.25, 0.5, -1.0]), "box": torch.eye(4)}}


@pytest.mark.parametrize("condition", [LABELS, TWO], ids=["labels", "a mapping"])
def test_the_batch_is_the_first_axis_of_all(condition):
    assert batch_of(condition) == 4
    assert batch_of(some(condition, slice(1, 3))) == 2
    twice = joined([condition, some(condition, torch.tensor([True, False, False, True]))])
    assert batch_of(twice) == 6
    for whole, part in zip(leaves(twice), leaves(condition), strict=True):
        assert torch.equal(whole, torch.cat((part, part[[0, 3]])))


@pytest.mark.parametrize("condition", [LABELS, TWO], ids=["labels", "a mapping"])
def test_where_takes_whole_images(condition):
    other = each(lambda part: part + 1, condition)
    mixed = where(torch.tensor([True, False, False, True]), condition, other)
    for found, a, b in zip(leaves(mixed), leaves(condition), leaves(other), strict=True):
        assert torch.equal(found, torch.stack([a[0], b[1], b[2], a[3]]))


def test_numbers_are_alike_where_conditions_are():
    rows = numbers(TWO)
    assert rows.dtype == torch.int64 and len(rows) == 4
    assert torch.equal(numbers(LABELS), LABELS[:, None])
    assert torch.equal(rows[0, :2], rows[2, :2]) and not torch.equal(rows[0], rows[2])
