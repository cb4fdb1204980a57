import numpy as np
import pytest
from PIL import Image

from maskgit.config.loading import load
from maskgit.data.sources import SPLITS, load_source
from tests.conftest import blob
from tests.data.conftest import make_parquet


def test_a_hub_that_does_not_answer_is_named():
    with pytest.raises(FileNotFoundError, match="cannot load data set 'nobody/nothing'"):
        load_source({"name": "huggingface", "path": "nobody/nothing"}, "train")


def test_a_wrong_column_is_told_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match="no column 'image'; it has picture, kind"):
        load_source(
            {"name": "huggingface", "path": "parquet", "data_files": make_parquet(tmp_path)},
            "train",
        )


@pytest.mark.parametrize("place", ["a file/below it", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_to_is_a_warning(
    tmp_path, image_folder, place, monkeypatch, capsys
):
    import datasets

    (tmp_path / "a file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / place)
    spec = {"path": "imagefolder", "data_dir": str(image_folder), "label_column": "label"}
    source = load_source({"name": "huggingface", **spec}, "train")
    assert sorted(set(source.labels.tolist())) == [0, 1]
    assert "warning: the cache of data set 'imagefolder' is not used" in capsys.readouterr().err


def test_a_damaged_table_is_a_line(tmp_path):
    files = make_parquet(tmp_path)
    path = tmp_path / "train.parquet"
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(FileNotFoundError, match="cannot load data set 'parquet': ") as error:
        load_source({"name": "huggingface", "path": "parquet", "data_files": files}, "train")
    assert "\n" not in str(error.value)


def test_an_imagefolder_through_datasets(tmp_path, image_folder):
    spec = {
        "name": "huggingface",
        "path": "imagefolder",
        "data_dir": str(image_folder),
        "label_column": "label",
    }
    source = load_source(spec, "train")
    assert source.class_names == ("bag", "coat") and len(source.labels) == 24


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


def labelled(tmp_path, values):
    import datasets

    rng = np.random.default_rng(0)
    rows = {"image": [Image.fromarray(blob(0, rng)) for _ in values], "label": values}
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(path)
    return {
        "name": "huggingface",
        "path": "parquet",
        "data_files": str(path),
        "label_column": "label",
    }


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([0, 1, -1, 1] * 10, 10),
        (["a", None, "b", ""] * 10, 20),
        ([[0], [1], [0], [1]] * 10, 40),
        ([0.0, float("nan"), 1.0, 1.0] * 10, 40),
    ],
)
def test_rows_without_a_label_are_refused_with_their_count(tmp_path, values, count):
    spec = labelled(tmp_path, values) | {"validation_share": 0.5}
    # of the rows that train; others are looked at as well
    with pytest.raises(ValueError, match=rf"of {len(values)} rows have no label") as error:
        load_source({**spec, "splits": {"train": "train", "validation": "train"}}, "train")
    assert f": {count} of" in str(error.value)


def test_labels_that_are_numbers_are_in_their_order(tmp_path):
    source = load_source(labelled(tmp_path, ["10", "9", "2", "10"] * 10), "train")
    assert source.class_names == ("2", "9", "10")


def test_the_path_of_a_parquet_file_is_a_data_set(tmp_path):
    import datasets

    images = [Image.fromarray(blob(i % 2, np.random.default_rng(i))) for i in range(20)]
    table = {"image": images, "label": [("bag", "coat")[i % 2] for i in range(20)]}
    path = str(tmp_path / "mine.parquet")
    datasets.Dataset.from_dict(table).cast_column("image", datasets.Image()).to_parquet(path)
    config = load("mnist/vqgan", [f"data.source={path}"])
    source = load_source(config.data.source, "train")
    assert source.class_names == ("bag", "coat") and source.labels.tolist() == [0, 1] * 9 + [0]
    assert source.image(1).size == (16, 16)
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.parquet"):
        load_source("nowhere.parquet", "train")
