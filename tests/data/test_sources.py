import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from maskgit.data.sources import SOURCES, SPLITS, load_source
from maskgit.data.sources.small import FASHION_NAMES
from tests.conftest import blob
from tests.data.conftest import make_cifar, make_imagenet


def write_idx(path, array):
    data = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_fashion(root, suffix=".gz"):
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.stack([blob(label % 3, rng, 28) for label in labels])
        write_idx(root / f"{prefix}-images-idx3-ubyte{suffix}", pixels)
        write_idx(root / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return root


def make_parquet(root):
    import datasets

    rng = np.random.default_rng(0)
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["bag", "coat"])}
    )
    for split, count in (("train", 12), ("test", 4)):
        rows = {
            "picture": [Image.fromarray(blob(i % 2, rng)) for i in range(count)],
            "kind": [i % 2 for i in range(count)],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / f"{split}.parquet")
    return {"train": str(root / "train.parquet"), "test": str(root / "test.parquet")}


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


def test_mnist_is_real_and_split_evenly():
    train, validation = (load_source("mnist5k", split) for split in SPLITS)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(validation.labels).tolist() == [100] * 10
    assert train.image(0).size == (28, 28) and 10 < np.asarray(train.image(0)).mean() < 100


def test_openmoji_is_coloured_and_its_splits_share_no_picture():
    train, validation = (load_source({"name": "openmoji", "size": 32}, split) for split in SPLITS)
    assert (
        len(train.labels) > 3000
        and len(validation.labels) > 800
        and train.class_names == ("openmoji",)
    )
    pictures = {
        source.image(i).tobytes()
        for source in (train, validation)
        for i in range(len(source.labels))
    }
    assert len(pictures) == len(train.labels) + len(validation.labels)
    pixels = np.stack([np.asarray(train.image(i)) for i in range(len(train.labels))]).astype(int)
    assert pixels.shape[1:] == (32, 32, 3) and 0.05 < (np.ptp(pixels, axis=-1) > 60).mean() < 0.6
    assert (pixels[:, 0, 0] == 255).all(), "a picture stands on white, whole"


def test_fashion_names_and_raw_files(tmp_path):
    source = load_source(
        {"name": "fashion_mnist", "root": str(make_fashion(tmp_path / "raw", suffix=""))}, "train"
    )
    assert source.class_names == FASHION_NAMES and len(FASHION_NAMES) == 10


def test_a_cut_idx_file_is_named(tmp_path):
    root = make_fashion(tmp_path / "f", suffix="")
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte should hold 23520 bytes, has 23515"
    ):
        load_source({"name": "fashion_mnist", "root": str(root)}, "train")


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "imagenet", "folder"])
def test_missing_files_say_what_to_do(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.source\.root"):
        load_source({"name": name, "root": str(tmp_path / "nowhere")}, "train")


def test_a_hub_that_does_not_answer_is_named():
    with pytest.raises(FileNotFoundError, match="cannot load data set 'nobody/nothing'"):
        load_source({"name": "huggingface", "path": "nobody/nothing"}, "train")


def test_a_wrong_column_is_told_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match="no column 'image'; it has picture, kind"):
        load_source(
            {"name": "huggingface", "path": "parquet", "data_files": make_parquet(tmp_path)},
            "train",
        )


def test_a_flat_folder_is_one_class_split_by_name(tmp_path):
    for i in range(200):
        Image.new("L", (4, 4)).save(tmp_path / f"{i}.png")
    train, validation = (
        load_source({"name": "folder", "root": str(tmp_path)}, split) for split in SPLITS
    )
    assert (
        train.class_names == (tmp_path.name,) and len(train.labels) + len(validation.labels) == 200
    )
    assert 0 < len(validation.labels) < 30
    names = {train.name(i) for i in range(len(train.labels))} & {
        validation.name(i) for i in range(len(validation.labels))
    }
    assert not names


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no images in its train split"):
        load_source({"name": "folder", "root": str(tmp_path)}, "train")


def test_an_imagefolder_through_datasets(tmp_path, image_folder):
    spec = {
        "name": "huggingface",
        "path": "imagefolder",
        "data_dir": str(image_folder),
        "label_column": "label",
    }
    source = load_source(spec, "train")
    assert source.class_names == ("bag", "coat") and len(source.labels) == 24


def test_labels_mean_the_same_in_both_splits(tmp_path):
    root = make_imagenet(tmp_path / "i")
    import shutil

    shutil.rmtree(root / "val" / "n01443537")
    validation = load_source({"name": "folder", "root": str(root)}, "validation")
    assert sorted(set(validation.labels.tolist())) == [0, 2] and len(validation.class_names) == 3
    (root / "val" / "n09999999").mkdir()
    with pytest.raises(ValueError, match="val has classes that .*train has not: n09999999"):
        load_source({"name": "folder", "root": str(root)}, "validation")


def test_string_labels_are_named_by_the_training_split_whatever_is_held_out(tmp_path):
    import datasets

    rng = np.random.default_rng(0)
    rows = {
        "image": [Image.fromarray(blob(0, rng)) for _ in range(40)],
        "kind": ["cat"] * 20 + ["dog"] * 20,
    }
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(
        tmp_path / "t.parquet"
    )
    spec = {
        "name": "huggingface",
        "path": "parquet",
        "data_files": str(tmp_path / "t.parquet"),
        "label_column": "kind",
    }
    train, validation = (load_source({**spec, "validation_share": 0.1}, split) for split in SPLITS)
    assert train.class_names == validation.class_names == ("cat", "dog")
    assert (len(train.labels), validation.labels.tolist()) == (36, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="unknown split of 'parquet' 'tran', did you mean 'train'"):
        load_source({**spec, "splits": {"train": "tran"}}, "train")


def test_a_cut_gzip_is_named(tmp_path):
    root = make_fashion(tmp_path / "f")
    path = root / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        load_source({"name": "fashion_mnist", "root": str(root)}, "train")
