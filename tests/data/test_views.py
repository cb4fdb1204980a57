import numpy as np
import pytest
from PIL import Image

from maskgit.data.datasets import ImageDataset, Quarantine
from maskgit.data.pixels import Transform
from maskgit.data.sources import Source
from maskgit.data.views import Views


@pytest.fixture
def images():
    """Three pictures, of which the second cannot be read."""

    def image(index):
        if index == 1:
            raise OSError("broken")
        return Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) + index)

    source = Source(image, np.array([4, 5, 6]), ("a",) * 7, str)
    return ImageDataset(source, Transform(4, 1, flip=True), quarantine=Quarantine())


def test_views_are_plain_and_mirrored_and_leave_out_what_is_corrupt(images):
    batch = Views(images).__getitems__([(0, 0), (1, 0), (2, 0)])
    assert batch.data.shape == (2, 2, 1, 4, 4) and batch.labels.tolist() == [4, 6]
    assert (batch.data[:, 1] == batch.data[:, 0].flip(-1)).all()
    assert Views(images, training=False).__getitems__([(0, 0)]).data.shape == (1, 1, 1, 4, 4)
    assert len(Views(images).__getitems__([(1, 0)]).labels) == 0
