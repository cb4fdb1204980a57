import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskgit.data import ImageDataset, Quarantine, StepOrder, batches, in_order
from maskgit.images import Transform
from maskgit.sources import Source, load_source


@given(
    st.integers(1, 50), st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (3, 2)]), st.integers(0, 5), st.integers(0, 9)
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_step_sees_the_same_images_for_any_number_of_processes(num_items, split, start, seed):
    world, accumulate = split
    whole = list(StepOrder(num_items, 12, seed=seed, start=start, stop=start + 3))
    per_rank = [
        list(
            StepOrder(num_items, 12, seed=seed, start=start, stop=start + 3, rank=r, world=world, accumulate=accumulate)
        )
        for r in range(world)
    ]
    for step in range(3):
        parts = [key for rank in per_rank for part in rank[step * accumulate : (step + 1) * accumulate] for key in part]
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
    keys = [key for rank in range(3) for part in in_order(range(10), 2, rank=rank, world=3) for key in part]
    assert sorted(keys) == [(i, 0) for i in range(10)]


def dataset(image_folder, **options):
    source = load_source({"name": "folder", "root": str(image_folder)}, "train")
    return ImageDataset(source, Transform(16, 1, crop="random", flip=True), quarantine=Quarantine(), **options)


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
    from maskgit import images

    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    source = Source(
        lambda i: images.open_image("x") if i else Image.new("L", (4, 4)), np.zeros(9, dtype=np.int64), ("a",), str
    )
    data = ImageDataset(source, Transform(4, 1), quarantine=Quarantine())
    assert data.read(1) is None and data.read(0) is not None
