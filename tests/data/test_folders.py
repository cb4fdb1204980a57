import pytest
from PIL import Image

from maskgit.data.sources import SPLITS, load_source
from tests.data.conftest import make_imagenet


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


def test_labels_mean_the_same_in_both_splits(tmp_path):
    root = make_imagenet(tmp_path / "i")
    import shutil

    shutil.rmtree(root / "val" / "n01443537")
    validation = load_source({"name": "folder", "root": str(root)}, "validation")
    assert sorted(set(validation.labels.tolist())) == [0, 2] and len(validation.class_names) == 3
    (root / "val" / "n09999999").mkdir()
    with pytest.raises(ValueError, match="val has classes that .*train has not: n09999999"):
        load_source({"name": "folder", "root": str(root)}, "validation")
