import numpy as np
import pytest
import torch

from maskgit.data.pixels import to_pil
from maskgit.pictures import SMALLEST, image_grid, pairs


def test_small_images_are_enlarged_and_rows_are_named():
    images = torch.zeros(6, 1, 7, 14)
    plain = image_grid(images, num_columns=3)
    assert plain.width >= 3 * SMALLEST and plain.height < plain.width
    assert image_grid(images, num_columns=3, row_names=["a", "b"]).width > plain.width


def test_pairs_stand_in_double_rows():
    originals = torch.zeros(4, 3, 56, 56)
    one, two = (pairs(originals, originals, num_columns=number) for number in (4, 2))
    assert one.height == 2 * 56 + 3 * 4 and two.height == 4 * 56 + 5 * 4


def test_few_pairs_and_a_last_row_that_is_not_full_stay_under_their_names():
    dark, light = -torch.ones(3, 1, 56, 56), torch.ones(3, 1, 56, 56)
    few = np.asarray(pairs(dark, light, num_columns=10).convert("L"))
    assert few.shape[0] == 2 * 56 + 3 * 4
    right = few[:, -3 * 60 :]
    assert right[:60].mean() < 60 and right[-58:].mean() > 250
    rows = np.asarray(pairs(dark, light, num_columns=2).convert("L"))
    assert rows.shape[0] == 4 * 56 + 5 * 4 and rows[-58:].mean() > 240, "the last originals alone"


@pytest.mark.parametrize("count, columns, channels", [(1, 3, 1), (2, 3, 3), (7, 3, 1), (6, 2, 3)])
def test_images_lie_as_torchvision_lays_them(count, columns, channels):
    from torchvision.utils import make_grid

    images = torch.rand(count, channels, 60, 57) * 2 - 1
    theirs = to_pil(make_grid(images, nrow=columns, padding=4, pad_value=1.0)).convert("RGB")
    assert image_grid(images, num_columns=columns).tobytes() == theirs.tobytes()


def test_names_in_other_scripts_are_drawn():
    rows = [
        image_grid(torch.ones(1, 1, 60, 60), num_columns=1, row_names=[name])
        for name in ("é", "ح", "ع")
    ]
    drawn = [np.asarray(row)[:, : row.width - 60] for row in rows]
    assert all((side < 128).any() for side in drawn)
    assert not np.array_equal(drawn[1], drawn[2])
