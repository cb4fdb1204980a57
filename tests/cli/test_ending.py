import torch

from maskgit.cli.own.ending import _every_second, _seen
from maskgit.config.sections import DataConfig


def test_two_sets_of_other_images_of_the_same_classes(image_folder):
    data = DataConfig(source={"name": "folder", "root": str(image_folder)}, image_size=16)
    one, other = _every_second(data, 6)
    assert one.num_images == other.num_images == 6
    assert one.labels.tolist() == other.labels.tolist() == [0, 0, 0, 1, 1, 1]
    mine, theirs = (torch.cat(list(side.read([range(2), range(2, 6)]))) for side in (one, other))
    assert mine.shape == theirs.shape == (6, 1, 16, 16)
    assert not any(torch.equal(a, b) for a in mine for b in theirs)


def test_colours_are_seen_without_transparency_and_grey_three_times():
    assert (
        _seen(torch.zeros(2, 4, 3, 3)).shape == _seen(torch.zeros(2, 1, 3, 3)).shape == (2, 3, 3, 3)
    )
