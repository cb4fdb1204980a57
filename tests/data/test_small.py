import numpy as np
import pytest

from maskgit.data.sources import SPLITS, load_source
from maskgit.data.sources.small import FASHION_NAMES
from tests.data.conftest import make_fashion


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


def test_a_cut_gzip_is_named(tmp_path):
    root = make_fashion(tmp_path / "f")
    path = root / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a whole gzip file"):
        load_source({"name": "fashion_mnist", "root": str(root)}, "train")
