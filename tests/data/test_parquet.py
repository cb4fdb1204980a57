import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from maskgit.data.sources import SPLITS, load_source
from maskgit.data.sources.parquet import Table, local_files
from tests.conftest import blob


def shards(root, names, rows=12):
    """Files of `rows` pictures each; returns the arrays by file."""
    import datasets

    root.mkdir(parents=True, exist_ok=True)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["bag", "coat"])}
    )
    found = []
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        arrays = [blob(i % 2, rng) for i in range(rows)]
        table = {"image": [Image.fromarray(a) for a in arrays], "label": [0, 1] * (rows // 2)}
        datasets.Dataset.from_dict(table, features=features).to_parquet(root / f"{name}.parquet")
        found.append(arrays)
    return found


def is_there(*_, **__):
    raise AssertionError("the library was asked to make its copy")


def test_a_snapshot_of_the_hub_is_read_where_it_lies(tmp_path, monkeypatch):
    import datasets

    names = ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001")
    first, second, held = shards(tmp_path / "data", names)
    monkeypatch.setattr(datasets, "load_dataset", is_there)
    train, validation = (
        load_source({"name": "huggingface", "path": str(tmp_path)}, split) for split in SPLITS
    )
    assert train.class_names == ("bag", "coat") and train.labels.tolist() == [0, 1] * 12
    for source, arrays in ((train, first + second), (validation, held)):
        image = pickle.loads(pickle.dumps(source.image))
        assert [np.array_equal(np.asarray(image(i)), a) for i, a in enumerate(arrays)] == [
            True
        ] * len(arrays)
    assert train.name(13) == f"{tmp_path}/train[13]"


def test_a_part_of_the_training_validates_where_nothing_else_does(tmp_path):
    (arrays,) = shards(tmp_path, ("pictures",), rows=40)
    train, validation = (
        load_source(
            {"name": "huggingface", "path": f"{tmp_path}/*.parquet", "validation_share": 0.25},
            split,
        )
        for split in SPLITS
    )
    assert (len(train.labels), len(validation.labels)) == (30, 10)
    assert np.array_equal(np.asarray(validation.image(2)), arrays[11])
    assert np.array_equal(np.asarray(train.image(29)), arrays[38])


def test_what_is_written_in_another_way_goes_by_the_library(tmp_path):
    (arrays,) = shards(tmp_path, ("train",))
    path = tmp_path / "train.parquet"
    pq.write_table(pq.read_table(path), path, compression="lz4")
    source = load_source({"name": "huggingface", "path": str(tmp_path / "train.parquet")}, "train")
    assert np.array_equal(np.asarray(source.image(3)), arrays[3])


def test_a_column_of_bytes_without_a_schema_of_the_library(tmp_path):
    data = io.BytesIO()
    Image.fromarray(blob(0, np.random.default_rng(0))).save(data, "PNG")
    table = {"image": [data.getvalue(), None, b"no picture"] * 2, "label": ["a", "b", "a"] * 2}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(table), path)
    source = load_source(
        {"name": "huggingface", "path": str(path), "validation_share": 0.4}, "train"
    )
    assert source.class_names == ("a", "b")
    assert source.image(0).size == (16, 16)
    kinds = Table([path]).pictures("image", "x")
    with pytest.raises(ValueError, match="no image in this row"):
        kinds.image(1)
    with pytest.raises((ValueError, OSError)):
        kinds.image(2)


def test_files_by_split(tmp_path):
    shards(tmp_path, ("val-0", "train-10", "train-9", "testing", "trained"), rows=2)
    found = local_files(str(tmp_path), None)
    assert {split: [path.stem for path in paths] for split, paths in found.items()} == {
        "train": ["train-9", "train-10", "trained"],
        "validation": ["val-0"],
        "test": ["testing"],
    }
    assert local_files("parquet", {"train": "hf://some/train.parquet"}) is None
    assert local_files("somebody/something", None) is None
    assert local_files(str(tmp_path / "data"), None) is None
    with pytest.raises(FileNotFoundError, match="no file .*/none-"):
        local_files("parquet", {"train": [f"{tmp_path}/none-*.parquet"]})
