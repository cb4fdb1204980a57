import torch

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
