import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.config.sections import DataConfig
from maskgit.data.datasets import ImageDataset, Quarantine, image_datasets
from maskgit.data.order import batches
from maskgit.data.pixels import Transform, to_uint8
from maskgit.data.sources import Source, load_source


def dataset(image_folder, **options):
    source = load_source({"name": "folder", "root": str(image_folder)}, "train")
    return ImageDataset(
        source, Transform(16, 1, crop="random", flip=True), quarantine=Quarantine(), **options
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_a_function_of_seed_epoch_and_index(image_folder, workers):
    keys = [[(0, 0), (5, 0)], [(5, 0), (5, 1)]]
    first, second = batches(dataset(image_folder, augment=True), keys, workers=workers)
    assert first.data.dtype == torch.uint8 and first.data.shape == (2, 1, 16, 16)
    assert torch.equal(first.data[1], second.data[0])
    assert not torch.equal(second.data[0], second.data[1])
    assert first.labels.tolist() == [0, 0]


def test_without_augmentation_every_epoch_is_alike(image_folder):
    batch = dataset(image_folder).__getitems__([(3, 0), (3, 7)])
    assert torch.equal(batch.data[0], batch.data[1])


def test_a_corrupt_image_is_reported_once_and_replaced(image_folder, tmp_path, capsys):
    broken = image_folder / "train" / "bag" / "03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    log = tmp_path / "quarantine.jsonl"
    data = dataset(image_folder)
    data.quarantine = Quarantine(log)
    for _ in range(3):
        batch = data.__getitems__([(3, 0), (4, 0)])
        assert torch.equal(batch.data[0], batch.data[1])
    assert capsys.readouterr().err.count("skipped a corrupt image") == 1
    assert json.loads(log.read_text())["name"] == str(broken)
    data.quarantine = Quarantine(log)  # the next run knows it already
    data.__getitems__([(3, 0)])
    assert capsys.readouterr().err == "" and len(log.read_text().splitlines()) == 1


def test_too_many_corrupt_images_stop_the_run():
    def image(index):
        raise OSError("broken")

    source = Source(image, np.zeros(100, dtype=np.int64), ("a",), lambda i: f"image {i}")
    data = ImageDataset(source, Transform(4, 1), quarantine=Quarantine())
    with pytest.raises(ValueError, match="6 of 100 images are corrupt, more than 5%"):
        data.__getitems__([(0, 0)])


def test_a_huge_image_is_quarantined_not_fatal(monkeypatch):
    from maskgit.data import pixels as images

    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    source = Source(
        lambda i: images.open_image("x") if i else Image.new("L", (4, 4)),
        np.zeros(9, dtype=np.int64),
        ("a",),
        str,
    )
    data = ImageDataset(source, Transform(4, 1), quarantine=Quarantine())
    assert data.read(1) is None and data.read(0) is not None


def test_a_mended_image_leaves_the_quarantine_and_splits_count_apart(
    image_folder, tmp_path, capsys
):
    broken = [image_folder / split / "bag" / "03.png" for split in ("train", "val")]
    good = broken[0].read_bytes()
    for path in broken:
        path.write_bytes(b"")
    config = DataConfig(source={"name": "folder", "root": str(image_folder)}, image_size=16)
    for data in image_datasets(config, tmp_path, 0):
        data.__getitems__([(i, 0) for i in range(len(data))])
        assert len(data.quarantine.names) == 1
    assert "images: train 24, validation 8, of 2 classes" in capsys.readouterr().err
    log = tmp_path / "quarantine.jsonl"
    assert len(log.read_text().splitlines()) == 2
    broken[0].write_bytes(good)
    with open(log, "a") as file:
        file.write('{"name": "gone.png", "split": "train", "reason": "x"}\n[1]\n{"na')
    train, validation = image_datasets(config, tmp_path, 0)
    assert not train.quarantine.listed() and validation.quarantine.listed() == {str(broken[1])}


def test_a_batch_mirrors_its_images_where_it_is_sent(image_folder):
    keys = [(i, epoch) for i in range(6) for epoch in range(4)]
    batch = dataset(image_folder, augment=True).__getitems__(keys)
    assert 0 < batch.mirrored.sum() < len(keys)
    seen = batch.images(torch.device("cpu"))
    for pixels, mirrored, image in zip(batch.data, batch.mirrored, seen, strict=True):
        assert torch.equal(to_uint8(image), pixels.flip(-1) if mirrored else pixels)
    plain = dataset(image_folder).__getitems__(keys)
    assert plain.mirrored is None
    assert torch.equal(to_uint8(plain.images(torch.device("cpu"))), plain.data)
