import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from maskgit.data.sources import SPLITS, load_source
from maskgit.data.sources.groups import validating
from maskgit.data.sources.source import describe
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


def test_one_image_cannot_train_and_validate(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="has one image: add another"):
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


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def read(root, split="train"):
    """(class name, file name) of each image, and what was left out."""
    source = load_source({"name": "folder", "root": str(root)}, split)
    labels = [source.class_names[label] for label in source.labels]
    files = [Path(source.name(i)).name for i in range(len(labels))]
    return sorted(zip(labels, files, strict=True)), str(source.skipped)


@pytest.fixture
def classes(tmp_path):
    """Two classes of three images, with splits."""
    for name in "ab":
        for i in range(3):
            picture(tmp_path / "train" / name / f"{i}.png")
        picture(tmp_path / "val" / name / "0.png")
    return tmp_path


WHOLE = [(name, f"{i}.png") for name in "ab" for i in range(3)]


@pytest.mark.parametrize("target", ["..", "../..", ".", "../a", "loop"])
def test_no_link_leads_upwards_or_to_what_is_read_already(classes, target):
    (classes / "train" / "b" / "loop").symlink_to(target, target_is_directory=True)
    found, left_out = read(classes)
    assert found == WHOLE and "link" in left_out


def test_a_folder_is_read_once_whatever_links_there_are(classes, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(elsewhere / "x.png")
    for name in ("c", "d"):
        (classes / "train" / name).symlink_to(elsewhere, target_is_directory=True)
    (classes / "train" / "0").symlink_to(classes / "train" / "a", target_is_directory=True)
    found, left_out = read(classes)
    assert found == [*WHOLE, ("c", "x.png")]
    assert "2 links to a folder above or already read" in left_out


def test_hidden_system_and_other_files_are_no_data(classes):
    top = classes / "train"
    for name in ("a/._0.png", "a/.x.png", "__MACOSX/1.png", "@eaDir/1.png", ".cache/1.png"):
        picture(top / name)
    for name in ("a/Thumbs.db", "a/notes.txt", "b/label.csv", "a/.tmp-1.png"):
        (top / name).touch()
    os.mkfifo(top / "a" / "pipe.png")
    (top / "a" / "gone.png").symlink_to("nowhere.png")
    (top / "empty").mkdir()
    picture(top / "stray.png")
    found, left_out = read(classes)
    assert found == WHOLE
    for said in (
        "7 hidden or system files",
        "1 .txt files",
        "1 .csv files",
        "1 pipes, sockets and devices",
        "1 broken links",
        "1 class folders without images",
        "1 images beside the class folders",
    ):
        assert said in left_out, left_out


def test_an_unreadable_folder_is_named(classes, monkeypatch):
    real = os.scandir

    def refused(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    found, left_out = read(classes)
    assert found == WHOLE[:3] and "1 unreadable folders (Permission denied)" in left_out


@pytest.mark.parametrize(
    "suffix", [".gif", ".webp", ".bmp", ".tiff", ".TIF", ".jfif", ".ppm", ".avif"]
)
def test_every_format_that_pillow_reads_is_read(tmp_path, suffix):
    for i in range(3):
        path = tmp_path / "a" / f"{i}{suffix}"
        path.parent.mkdir(exist_ok=True)
        kind = "JPEG" if suffix == ".jfif" else None
        Image.new("RGB", (8, 8)).save(path, format=kind)
    source = load_source({"name": "folder", "root": str(tmp_path)}, "train")
    assert len(source.labels) == 2 and source.image(0).size == (8, 8)


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "TEST", "dev"])
def test_a_split_is_known_in_any_case_under_its_usual_names(classes, name):
    (classes / "val").rename(classes / name)
    (classes / "train").rename(classes / "Train")
    assert read(classes)[0] == WHOLE
    assert read(classes, "validation")[0] == [("a", "0.png"), ("b", "0.png")]


def test_splits_that_are_one_or_lacking_are_refused(classes):
    (classes / "val").rename(classes / "gone")
    with pytest.raises(FileNotFoundError, match=r"none of val.* or set data.source.root=.*train"):
        read(classes, "validation")
    (classes / "val").symlink_to(classes / "train", target_is_directory=True)
    with pytest.raises(FileNotFoundError, match="none of val"):
        read(classes, "validation")
    (classes / "train").rename(classes / "test")
    (classes / "gone").rename(classes / "valid")
    (classes / "val").unlink()
    with pytest.raises(FileNotFoundError, match="no train folder"):
        read(classes)


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        for i in range(2):
            picture(tmp_path / str(number) / f"{i}.png")
    source = load_source({"name": "folder", "root": str(tmp_path)}, "train")
    assert source.class_names == tuple(map(str, range(12)))


def test_names_in_two_forms_of_unicode_are_one_class(classes):
    picture(classes / "train" / unicodedata.normalize("NFD", "café") / "0.png")
    picture(classes / "val" / unicodedata.normalize("NFC", "café") / "0.png")
    assert ("café", "0.png") in read(classes, "validation")[0]
    picture(classes / "train" / unicodedata.normalize("NFC", "café") / "0.png")
    with pytest.raises(ValueError, match="two folders that are both called café"):
        read(classes)


def test_at_least_one_image_validates_and_one_trains():
    assert validating(["a", "b"], 0.01).count(True) == 1
    assert validating(["a", "b"], 0.99999).count(True) == 1
    assert validating(["a"], 0.05) == [False]


def test_a_name_that_is_no_unicode_is_read(tmp_path):
    for name in (b"\xff.png", b"a\nb.png", "\U0001f600.png".encode()):
        picture(tmp_path / "a" / os.fsdecode(name))
    counts = [
        len(load_source({"name": "folder", "root": str(tmp_path)}, split).labels)
        for split in SPLITS
    ]
    assert sum(counts) == 3 and min(counts) == 1


def test_a_class_that_the_split_by_hash_leaves_without_training_images_is_named(tmp_path):
    """Folders that differ in case only stay two classes, and get a word."""
    for name in ("Bag", "bag"):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{i}.png")
    alone = next(f"{i}.png" for i in range(10_000) if validating([f"coat/{i}.png", "x"], 0.05)[0])
    (tmp_path / "coat").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "coat" / alone)
    sources = {
        split: load_source({"name": "folder", "root": str(tmp_path)}, split) for split in SPLITS
    }
    assert sources["train"].class_names == ("Bag", "bag", "coat")
    line = describe(sources)
    assert "without a training image: coat;" in line and line.endswith("differs: Bag and bag")
