import json

import numpy as np
import pytest

from maskgit.data import cache
from maskgit.data import codes as codes_module
from maskgit.data.codes import CodeDataset, check_tokenizer
from maskgit.data.shards import smallest_dtype
from maskgit.data.tokenization import tokenize_dataset
from tests.data.conftest import make_tokenizer
from vqgan.tokenizer import Tokenizer


@pytest.mark.parametrize(("size", "name"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "int32")])  # fmt: skip
def test_the_smallest_type_that_holds_every_code(size, name):
    assert smallest_dtype(size) == np.dtype(name)


def test_the_manifest_says_what_was_tokenised(tmp_path, data):
    path = make_tokenizer(tmp_path / "t.safetensors")
    manifest = json.loads(tokenize_dataset(path, tmp_path / "codes", data).read_text())
    assert manifest["class_names"] == ["bag", "coat"] and manifest["codebook_size"] == 16
    assert manifest["images"] == {"train": 24, "validation": 8}
    assert manifest["transform"]["flip"] is True and manifest["source"] == data.source
    assert manifest["splits"]["train"] == {"skipped": 0, "shards": [24]}
    assert manifest["splits"]["validation"] == {"skipped": 0, "shards": [8]}


def test_run_again_it_is_done_and_never_encodes(tmp_path, data, monkeypatch, capsys):
    path = make_tokenizer(tmp_path / "t.safetensors")
    tokenize_dataset(path, tmp_path / "codes", data)
    monkeypatch.setattr(Tokenizer, "encode", None)
    tokenize_dataset(path, tmp_path / "codes", data)
    assert "tokenised already" in capsys.readouterr().err


def test_an_interrupted_call_continues_with_the_missing_shards(tmp_path, data, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_ROWS", 10)
    path, out = make_tokenizer(tmp_path / "t.safetensors"), tmp_path / "codes"
    written = []
    real = cache.write_shard

    def stop_at_the_second(shard, *rest):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(shard.name)
        real(shard, *rest)

    monkeypatch.setattr(cache, "write_shard", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        tokenize_dataset(path, out, data)
    with pytest.raises(FileNotFoundError, match="no code cache"):
        CodeDataset(out, "train")
    monkeypatch.setattr(
        cache,
        "write_shard",
        lambda shard, *rest: (written.append(shard.name), real(shard, *rest)),
    )
    tokenize_dataset(path, out, data)
    assert sorted(written) == sorted(set(written)) and len(CodeDataset(out, "train")) == 24


def test_another_tokenizer_or_transform_is_refused_unless_overwritten(tmp_path, data):
    out = tmp_path / "codes"
    first = make_tokenizer(tmp_path / "a.safetensors")
    second = make_tokenizer(tmp_path / "b.safetensors", seed=1)
    tokenize_dataset(first, out, data)
    with pytest.raises(
        ValueError, match=r"holds other codes \(tokenizer_sha256: .*\): add --overwrite"
    ):
        tokenize_dataset(second, out, data)
    with pytest.raises(ValueError, match=r"holds other codes \(transform: .*\): add --overwrite"):
        tokenize_dataset(first, out, data.model_copy(update={"flip": False}))
    with pytest.raises(ValueError, match="was made by tokenizer"):
        check_tokenizer(out, codes_module.read_manifest(out), second)
    tokenize_dataset(second, out, data, overwrite=True)
    check_tokenizer(out, codes_module.read_manifest(out), second)


def test_corrupt_images_are_left_out_and_counted(tmp_path, data, image_folder, capsys):
    (image_folder / "train" / "bag" / "05.png").write_bytes(b"not a png")
    path = make_tokenizer(tmp_path / "t.safetensors")
    manifest = json.loads(tokenize_dataset(path, tmp_path / "codes", data).read_text())
    assert manifest["splits"]["train"] == {"skipped": 1, "shards": [23]}
    assert "05.png" in capsys.readouterr().err
    assert np.bincount(CodeDataset(tmp_path / "codes", "train").labels).tolist() == [11, 12]


def test_a_size_that_does_not_divide_is_refused(tmp_path, data):
    path = make_tokenizer(tmp_path / "t.safetensors")
    with pytest.raises(ValueError, match="do not divide by the tokenizer's downscale 4"):
        tokenize_dataset(path, tmp_path / "codes", data.model_copy(update={"image_size": 18}))


def test_new_images_make_a_cache_stale(tmp_path, data, image_folder):
    path = make_tokenizer(tmp_path / "t.safetensors")
    tokenize_dataset(path, tmp_path / "codes", data)
    (image_folder / "train" / "bag" / "99.png").write_bytes(
        (image_folder / "train" / "bag" / "00.png").read_bytes()
    )
    with pytest.raises(ValueError, match=r"holds other codes \(images: .*\): add --overwrite"):
        tokenize_dataset(path, tmp_path / "codes", data)


@pytest.mark.parametrize(("first", "name"), [(2, "bag/{:02d}.png"), (22, "coat/{:02d}.png")])
def test_a_shard_of_which_nothing_can_be_read_is_named(
    tmp_path, image_folder, data, monkeypatch, first, name
):
    """Whether another one follows or not."""
    monkeypatch.setattr(cache, "SHARD_ROWS", 2)
    for row in (first, first + 1):
        (image_folder / "train" / name.format(row % 12)).write_bytes(b"nothing")
    path = make_tokenizer(tmp_path / "t.safetensors")
    with pytest.raises(ValueError, match=f"none of the images {first} to {first + 1} of train"):
        tokenize_dataset(path, tmp_path / "codes", data)
