import errno
import json
import os
import shutil
import signal
from functools import partial

import pytest
from PIL import Image

from maskgit.data import cache, views
from maskgit.data.codes import CodeDataset
from maskgit.data.manifest import read_sealed, write_sealed
from maskgit.data.tokenization import tokenize_dataset
from maskgit.stopping import Stopped, raising
from tests.conftest import cli, repo
from tests.data.conftest import make_tokenizer
from vqgan import weights
from vqgan.files import sha256
from vqgan.tokenizer import Tokenizer


@pytest.fixture
def made(tmp_path, data, monkeypatch):
    """(tokenizer, cache) of three training shards and one of validation; `again(**options)`."""
    monkeypatch.setattr(cache, "SHARD_ROWS", 9)
    path, out = make_tokenizer(tmp_path / "t.safetensors"), tmp_path / "codes"
    tokenize_dataset(path, out, data)
    return out, lambda **options: tokenize_dataset(path, out, data, **options)


def shards(out):
    return {path.name: sha256(path) for path in sorted(out.glob("*.safetensors"))}


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def swap(path):
    other = path.with_name("validation-00000.safetensors")
    whole = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(whole)


DAMAGE = {
    "flip": flip,
    "cut": lambda path: os.truncate(path, 100),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "swap": swap,
    "another": lambda path: shutil.copy(path.with_name("train-00000.safetensors"), path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_just_what_is_damaged_is_refused_and_made_again(made, damage, monkeypatch):
    out, again = made
    before = shards(out)
    DAMAGE[damage](out / "train-00001.safetensors")
    with pytest.raises((ValueError, FileNotFoundError), match=r"train-00001.*`maskgit tokenize"):
        CodeDataset(out, "train")
    written, real = [], cache.write_shard
    monkeypatch.setattr(
        cache, "write_shard", lambda p, *rest: (written.append(p.name), real(p, *rest))
    )
    again()
    assert shards(out) == before
    assert written == [
        "train-00001.safetensors",
        *["validation-00000.safetensors"] * (damage == "swap"),
    ]
    CodeDataset(out, "train")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b"{}"])
def test_a_damaged_manifest_is_named_and_made_again(made, content, monkeypatch):
    out, again = made
    before, manifest = shards(out), (out / "manifest.json").read_bytes()
    (out / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is (damaged|not)"):
        CodeDataset(out, "train")
    monkeypatch.setattr(Tokenizer, "encode", None)  # shards that prove themselves are kept
    again()
    assert shards(out) == before and (out / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("key", "value"),
    [("codebook_size", -1), ("class_names", [1]), ("splits", {"train": {"shards": [-5]}}),
     ("splits", []), ("sha256", 3), ("tokenizer_sha256", None)],
)  # fmt: skip
def test_a_manifest_of_wrong_values_is_named(made, key, value):
    out, _ = made
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(ValueError, match=f"is damaged \\({key}"):
        CodeDataset(out, "train")


def test_overwrite_makes_all_anew_and_nothing_old_speaks_for_it(made, monkeypatch):
    out, again = made
    before, left = shards(out), []

    def stopped(path, *rest):
        left.append(sorted(p.name for p in out.glob("*.*") if not p.name.startswith(".")))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache, "write_shard", stopped)
        again(overwrite=True)
    assert left == [["unfinished.json", "verified.json"]] or left == [["unfinished.json"]]
    again(overwrite=True)
    assert shards(out) == before


def test_changed_images_are_refused_whatever_their_dates_and_moved_ones_are_not(
    made, data, image_folder, tmp_path, capfd
):
    out, again = made
    path = image_folder / "train" / "bag" / "00.png"
    state, other = path.stat(), image_folder / "train" / "bag" / "01.png"
    for image in image_folder.rglob("*.png"):
        os.utime(image, (1, 1))
    again()
    assert "tokenised already" in capfd.readouterr().err, "other dates, the same images"
    moved = tmp_path / "elsewhere"
    shutil.copytree(image_folder, moved)
    moved_data = data.model_copy(update={"source": {"name": "folder", "root": str(moved)}})
    tokenize_dataset(tmp_path / "t.safetensors", out, moved_data)
    assert json.loads((out / "manifest.json").read_text())["source"]["root"] == str(moved)
    size = max(state.st_size, other.stat().st_size)
    content = other.read_bytes()
    path.write_bytes(content + bytes(size - len(content)))
    other.write_bytes(content + bytes(size - len(content)))
    with pytest.raises(ValueError, match=r"holds other codes \(.*images.*\): add --overwrite"):
        again()
    again(overwrite=True)


def write_padded(path, picture):
    """A PNG of 1000 bytes."""
    picture.save(path)
    path.write_bytes(path.read_bytes().ljust(1000, b"\0"))


def test_images_changed_in_place_without_another_size_are_refused(made, image_folder):
    _, again = made
    path = image_folder / "train" / "bag" / "00.png"
    picture = Image.open(path)
    write_padded(path, picture)
    again(overwrite=True)
    write_padded(path, picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM))
    with pytest.raises(ValueError, match="images of train were changed since"):
        again()


def test_shards_of_other_pixels_are_not_kept_where_no_manifest_knows_their_dates(
    made, image_folder
):
    out, again = made
    path = image_folder / "train" / "bag" / "00.png"
    picture = Image.open(path)
    write_padded(path, picture)
    again(overwrite=True)
    before = shards(out)
    write_padded(path, picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM))
    (out / "manifest.json").unlink()
    again()
    changed = [name for name, content in shards(out).items() if content != before[name]]
    assert changed == ["train-00000.safetensors"]


@pytest.mark.parametrize("known", [True, False])
def test_all_shards_of_a_split_are_looked_at_by_one_loader(made, image_folder, monkeypatch, known):
    """Of three shards and one; workers would begin anew for each."""
    out, again = made
    before, started, real = shards(out), [], views.batches
    for path in image_folder.rglob("*.png"):
        os.utime(path, (1, 1))
    if not known:
        (out / "manifest.json").unlink()

    def noted(dataset, order, **options):
        started.append(len(order))
        return real(dataset, order, **options)

    monkeypatch.setattr(views, "batches", noted)
    again()
    assert [count for count in started if count] == [3, 1] and shards(out) == before


def test_renamed_classes_are_refused_with_both_lists(made, image_folder):
    _, again = made
    for split in ("train", "val"):
        (image_folder / split / "bag").rename(image_folder / split / "hat")
    with pytest.raises(ValueError, match=r"class_names: \[bag\] of 2 -> \[hat\] of 2"):
        again()


def test_a_cache_without_hashes_is_known_and_says_so(made, capfd):
    out, again = made
    manifest = json.loads((out / "manifest.json").read_text())
    for key in ("files", "times", "sha256", "seal"):
        del manifest[key]
    (out / "manifest.json").write_text(json.dumps(manifest))
    again()
    assert "kept no hashes: --overwrite adds them" in capfd.readouterr().err
    assert (
        json.loads((repo() / "tests/golden/0.1/codes/manifest.json").read_text()).keys()
        == manifest.keys()
    )


class Stopping:
    """Tokenizer.encode, counted; a signal comes in a call of it."""

    def __init__(self, monkeypatch):
        self.calls, self.at, real = 0, 0, Tokenizer.encode

        def encode(tokenizer, images):
            self.calls += 1
            if self.calls == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(tokenizer, images)

        monkeypatch.setattr(Tokenizer, "encode", encode)

    def stop(self, at, work):
        self.calls, self.at = 0, at
        with pytest.raises(Stopped), raising():
            work()
        self.at, self.calls = 0, 0


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("at", [2, 3, 8])
def test_a_stopped_shard_goes_on_to_the_same_bits(made, data, tmp_path, monkeypatch, at):
    """Of a shard of 9 images with mirrored views two batches of 4 are done when the third stops."""
    out, _ = made
    path, other, watch = tmp_path / "t.safetensors", tmp_path / "other", Stopping(monkeypatch)
    work = partial(tokenize_dataset, path, other, data, batch_size=8)
    tokenize_dataset(path, out, data, batch_size=8, overwrite=True)
    whole = watch.calls
    watch.stop(at, work)
    assert any(name.endswith(".begun.safetensors") for name in shards(other))
    work()
    assert watch.calls == whole - (at - 1)
    assert shards(other) == shards(out)
    assert (other / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("change", ["batches", "an image", "a flipped bit", "overwrite"])
def test_a_stopped_shard_of_something_else_is_begun_anew(
    made, data, tmp_path, image_folder, monkeypatch, change
):
    path, out, watch = tmp_path / "t.safetensors", tmp_path / "other", Stopping(monkeypatch)
    watch.stop(3, lambda: tokenize_dataset(path, out, data, batch_size=8))
    if change == "an image":
        image = image_folder / "train" / "bag" / "00.png"
        picture, size, times = Image.open(image), image.stat().st_size, image.stat()
        picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(image)
        image.write_bytes(image.read_bytes().ljust(size, b"\0")[:size])
        os.utime(image, (times.st_atime, times.st_mtime))
    if change == "a flipped bit":
        flip(out / "train-00000.begun.safetensors")
    size = 16 if change == "batches" else 8
    tokenize_dataset(path, out, data, batch_size=size, overwrite=change == "overwrite")
    fresh = tmp_path / "fresh"
    tokenize_dataset(path, fresh, data, batch_size=size)
    assert shards(out) == shards(fresh)


def test_a_key_outside_the_data_section_is_refused(tmp_path, capfd):
    make_tokenizer(tmp_path / "t.safetensors")
    config = ["data.source=mnist5k", "image_size=24"]
    assert cli("tokenize", tmp_path / "t.safetensors", "--out", tmp_path / "c", *config) == 2
    assert "data" in capfd.readouterr().err


@pytest.mark.parametrize("others", [{"name": "a web page"}, {"format": "maskgit-codes-2"}])
def test_a_manifest_of_another_program_or_version_stays(tmp_path, data, others):
    path, out = make_tokenizer(tmp_path / "t.safetensors"), tmp_path / "codes"
    write_sealed(out / "manifest.json", others)
    with pytest.raises(ValueError, match="was it written by another program or version"):
        tokenize_dataset(path, out, data)
    assert read_sealed(out / "manifest.json") == others


def test_overwrite_removes_nothing_but_shards(made):
    out, again = made
    (out / "tokenizer.safetensors").write_bytes(b"x")
    again(overwrite=True)
    assert (out / "tokenizer.safetensors").read_bytes() == b"x"


def test_a_tokenizer_that_is_replaced_meanwhile_is_read_once(tmp_path, data, monkeypatch):
    """Codes, their tokenizer's hash and the data's section are of one reading of the file."""
    path, real = make_tokenizer(tmp_path / "t.safetensors"), weights.load_weights
    tokenize_dataset(path, tmp_path / "wanted", data)

    def replaced(*arguments):
        found = real(*arguments)
        make_tokenizer(path, seed=1)
        return found

    monkeypatch.setattr(weights, "load_weights", replaced)
    tokenize_dataset(path, tmp_path / "codes", data)
    assert shards(tmp_path / "codes") == shards(tmp_path / "wanted")
    files = [(tmp_path / name / "manifest.json").read_bytes() for name in ("codes", "wanted")]
    assert files[0] == files[1]


def test_a_half_written_tokenizer_is_named(tmp_path, data):
    path = make_tokenizer(tmp_path / "t.safetensors")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match="t.safetensors is not a safetensors file, or is cut"):
        tokenize_dataset(path, tmp_path / "codes", data)


def test_a_full_disk_leaves_nothing_half_written_and_the_same_command_goes_on(made, monkeypatch):
    out, again = made
    before, manifest = shards(out), (out / "manifest.json").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("maskgit.data.shards.save_file", full)
        with pytest.raises(OSError, match=r"train-00000.safetensors cannot be written .*make room"):
            again(overwrite=True)
    assert not list(out.glob("*.safetensors")) and not list(out.glob(".tmp*"))
    again()
    assert shards(out) == before and (out / "manifest.json").read_bytes() == manifest
