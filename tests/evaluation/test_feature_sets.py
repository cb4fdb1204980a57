from types import SimpleNamespace

import numpy as np
import pytest
import torch

from maskgit.evaluation import feature_sets
from maskgit.evaluation.feature_sets import extract, extract_cached
from maskgit.evaluation.features import ClassifierFeatures
from maskgit.evaluation.image_sets import from_folder


def test_reference_features_are_made_once(judge_file, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    network = ClassifierFeatures(judge_file)
    images = from_folder(image_folder / "val", channels=1, class_names=("bag", "coat"))
    first = extract_cached(images, network, network, batch_size=3)
    monkeypatch.setattr(network, "see", None)
    second = extract_cached(images, network, network, batch_size=3)
    for a, b in zip(first, second, strict=True):
        assert (
            torch.equal(a, b) if isinstance(a, torch.Tensor) else (a == b) is True or (a == b).all()
        )
    cached = next((tmp_path / "cache").iterdir())
    cached.write_bytes(cached.read_bytes()[:100])
    with pytest.raises(TypeError):  # a broken file is made again
        extract_cached(images, network, network, batch_size=3)
    with pytest.raises(TypeError):  # another set is looked at again
        extract_cached(from_folder(image_folder / "train", channels=1), network, batch_size=3)


def test_chunks_may_leave_a_rest_or_be_larger_than_the_set(judge_file, image_folder):
    network = ClassifierFeatures(judge_file)
    images = from_folder(image_folder / "val", channels=1)
    found = [extract(images, network, batch_size=size) for size in (3, 100)]
    assert torch.allclose(found[0].features, found[1].features, atol=1e-6)
    assert found[0].judged is None and found[0].labels is None


def no_folder(cache):
    cache.write_text("a file")


def not_writable(cache):
    cache.mkdir()
    cache.chmod(0o500)


def damaged(cache):
    for path in cache.iterdir():
        path.write_bytes(b"PK" + path.read_bytes()[2:-500])


@pytest.mark.parametrize("harm", [no_folder, not_writable, damaged])
def test_a_cache_that_cannot_be_used_is_a_warning(
    judge_file, image_folder, tmp_path, monkeypatch, harm, capsys
):
    cache = tmp_path / "cache"
    monkeypatch.setenv("MASKGIT_CACHE", str(cache))
    network = ClassifierFeatures(judge_file)
    images = from_folder(image_folder / "val", channels=1)
    truth = extract(images, network)
    if harm is damaged:
        extract_cached(images, network)
    if harm is not_writable:
        monkeypatch.setattr("maskgit.evaluation.feature_sets.write_features", refused)
    harm(cache)
    assert torch.equal(extract_cached(images, network).features, truth.features)
    assert "warning: " in capsys.readouterr().err


def test_the_cache_of_other_images_under_a_name_is_made_again(
    judge_file, image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    network = ClassifierFeatures(judge_file)
    sides = [from_folder(image_folder / split, channels=1) for split in ("val", "train")]
    truth = [extract_cached(images, network).features for images in sides]
    one, other = (tmp_path / "cache").iterdir()
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    again = [extract_cached(images, network).features for images in sides]
    assert all(torch.equal(*pair) for pair in zip(truth, again, strict=True))
    assert capsys.readouterr().err.count("it is the file of other images): it is made again") == 2


def refused(path, found):
    raise PermissionError(13, "Permission denied", str(path))


def test_fewer_images_are_looked_at_where_memory_runs_out(judge_file, image_folder, capfd):
    network, images = ClassifierFeatures(judge_file), from_folder(image_folder / "val", channels=1)
    whole, see = extract(images, network), network.see

    def short_of_memory(pixels):
        if len(pixels) > 3:
            raise torch.OutOfMemoryError
        return see(pixels)

    network.see = short_of_memory
    found = extract(images, network, network)
    assert torch.allclose(found.features, whole.features, atol=1e-6)
    assert "out of memory: 2 images at a time" in capfd.readouterr().err


@pytest.mark.parametrize("world", [2, 3])
def test_each_process_adds_up_its_own_images_and_all_do_once(
    judge_file, image_folder, world, monkeypatch
):
    """Of one that has no image, too; 8 images in chunks of 5 are two shares."""
    network, images = ClassifierFeatures(judge_file), from_folder(image_folder / "val", channels=1)
    whole, parts = extract(images, network), []
    for rank in range(world):
        part = feature_sets._Moments()
        for numbers in [range(5), range(5, 8)][rank::world]:
            [pixels] = images.read([numbers])
            part.add(network.see(pixels).features)
        parts.append(part)
    sums = [torch.zeros(65, 64) if part.sums is None else part.sums for part in parts]
    exchanged = []

    def summed(values):
        exchanged.append(values)
        return sum(sums)

    monkeypatch.setattr(feature_sets, "this_process", lambda: SimpleNamespace(num_processes=world))
    monkeypatch.setattr(feature_sets, "gather_rows", lambda rows: torch.tensor([[64]]))
    monkeypatch.setattr(feature_sets, "summed", summed)
    for rank, part in enumerate(parts):
        mean, covariance = part.of_all(8)
        assert torch.equal(exchanged[rank], sums[rank]) and exchanged[rank].dtype == torch.float64
        assert np.allclose(mean, whole.mean) and np.allclose(covariance, whole.covariance)
    assert len(exchanged) == world
