import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from maskgit.data.datasets import ImageDataset, Quarantine
from maskgit.data.pixels import Transform
from maskgit.data.sources import SOURCES, SPLITS, load_source
from maskgit.data.views import Views
from tests.data.conftest import make_cifar, make_fashion, make_imagenet, make_parquet, make_shards


def spec_of(name, tmp_path, monkeypatch):
    """How a small data set of each source is written down; the files are made here."""
    if name == "mnist5k":
        return name
    if name == "huggingface":
        options = {
            "image_column": "picture",
            "label_column": "kind",
            "splits": {"train": "train", "validation": "test"},
        }
        return {"name": name, "path": "parquet", "data_files": make_parquet(tmp_path), **options}
    if name == "webdataset":
        monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
        return {"name": name, "train": make_shards(tmp_path / name)}
    if name == "openmoji":
        return {"name": name, "size": 32}
    makers = {
        "fashion_mnist": make_fashion,
        "cifar10": lambda root: make_cifar(root, monkeypatch),
        "imagenet": make_imagenet,
        "folder": make_imagenet,
    }
    return {"name": name, "root": str(makers[name](tmp_path / name))}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_images_labels_and_names(name, tmp_path, monkeypatch):
    spec = spec_of(name, tmp_path, monkeypatch)
    sizes = {}
    for split in SPLITS:
        source = load_source(spec, split)
        sizes[split] = len(source.labels)
        assert source.labels.dtype == np.int64 and source.labels.ndim == 1
        assert source.labels.min() >= 0 and source.labels.max() < len(source.class_names)
        for index in (0, len(source.labels) - 1):
            assert isinstance(source.image(index), Image.Image)
            assert isinstance(source.name(index), str)
    assert sizes["train"] > sizes["validation"] > 0


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_reaches_a_worker_that_is_spawned(name, tmp_path, monkeypatch):
    source = load_source(spec_of(name, tmp_path, monkeypatch), "train")
    dataset = ImageDataset(
        source, Transform(16, 3, flip=True), augment=True, quarantine=Quarantine()
    )
    keys = [(0, 1), (len(dataset) - 1, 2)]
    for sent in (dataset, Views(dataset)):
        there = pickle.loads(pickle.dumps(sent))
        assert len(there) == len(sent)
        here, found = sent.__getitems__(keys), there.__getitems__(keys)
        assert torch.equal(here.data, found.data) and torch.equal(here.labels, found.labels)
        assert str(here.mirrored) == str(found.mirrored)
    assert [there.dataset.source.name(i) for i, _ in keys] == [source.name(i) for i, _ in keys]


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "imagenet", "folder"])
def test_missing_files_say_what_to_do(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.source\.root"):
        load_source({"name": name, "root": str(tmp_path / "nowhere")}, "train")
