import torch

from maskgit.benchmark import inputs


def test_batches_go_over_a_data_set_and_over_again():
    batches = inputs.keys(num_items=3, size=2, count=6)
    assert batches == [[(0, 0), (1, 0)], [(2, 0), (0, 0)], [(1, 0), (2, 0)]]


def test_pictures_are_of_two_classes_and_of_the_size_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "NUM_PICTURES", 6)
    images = inputs.pictures(inputs.picture_folder(tmp_path), 32, 3)
    batch = images.__getitems__([(number, 0) for number in range(6)])
    assert len(images) == 6 and batch.data.shape == (6, 3, 32, 32)
    assert sorted(batch.labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_a_cache_of_random_codes_is_read_as_any_other(tmp_path):
    cache = inputs.code_cache(tmp_path, 4, 16, rows=20)
    batch = cache.__getitems__([(number, 0) for number in range(20)])
    assert len(cache) == 20 and batch.data.shape == (20, 4, 4)
    assert batch.data.min() >= 0 and batch.data.max() < 16 and batch.data.dtype == torch.int64
