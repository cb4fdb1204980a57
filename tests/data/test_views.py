import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.data import views
from maskgit.data.datasets import ImageDataset, Quarantine
from maskgit.data.pixels import Transform
from maskgit.data.sources import Source
from maskgit.data.views import Views, encode_images, hash_images


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


def test_an_image_is_decoded_once_for_all_its_views(images):
    opened = []

    def counted(index, image=images.source.image):
        opened.append(index)
        return image(index)

    images.source = images.source._replace(image=counted)
    Views(images).__getitems__([(0, 0), (2, 0), (0, 0)])
    assert opened == [0, 2, 0]


def test_one_loader_reads_all_shards_and_no_batch_has_images_of_two(images, monkeypatch):
    started = []
    monkeypatch.setattr(views, "batches", lambda *given, real=views.batches, **options: started.append(1) or real(*given, **options))  # fmt: skip
    tokenizer = SimpleNamespace(
        parameters=lambda: iter([torch.zeros(1)]), encode=lambda pixels: pixels[:, 0].long()
    )
    shards = {3: range(0, 2), 5: range(1, 2), 7: range(2, 3)}
    found = list(encode_images(tokenizer, Views(images), shards, batch_size=4))
    assert [(part.shard, part.labels.tolist()) for part in found] == [(3, [4]), (7, [6])]
    assert started == [1] and found[0].codes.shape == (1, 2, 4, 4)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_one_loader_hashes_the_images_of_all_shards(images, monkeypatch, at_once):
    started, real = [], views.batches
    monkeypatch.setattr(views, "HASHED_AT_ONCE", at_once)
    monkeypatch.setattr(views, "batches", lambda *a, **b: started.append(1) or real(*a, **b))
    both, shards = Views(images), {3: range(0, 2), 5: range(1, 2), 7: range(2, 3)}
    found = [(number, digest.hexdigest()) for number, digest in hash_images(both, shards)]
    wanted = [
        hashlib.sha256(b"".join(both.__getitems__([(i, 0)]).data.numpy().tobytes() for i in part))
        for part in shards.values()
    ]
    assert found == [(n, one.hexdigest()) for n, one in zip(shards, wanted, strict=True)]
    assert started == [1] and list(hash_images(both, {})) == []
