"""Folders are listed once, and again where something in them has changed."""

import json
import os
import time
from pathlib import Path

import pytest

from maskgit.data.sources import listing as listings
from maskgit.data.sources import load_source
from maskgit.machine import warn_once
from tests.conftest import by_processes, repo


@pytest.fixture
def scanned(monkeypatch, tmp_path, image_folder):
    """The names of the folders that are listed, of a data set of which lists are kept."""
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listings, "KEPT_FROM", 0)
    age(image_folder)
    found, real = [], os.scandir

    def noted(path):
        found.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(os, "scandir", noted)
    return found


def age(root):
    """As if nothing had been changed for an hour."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, (time.time() - 3600,) * 2)


def read(root, split="train"):
    source = load_source({"name": "folder", "root": str(root)}, split)
    names = [os.path.relpath(source.name(i), root) for i in range(len(source.labels))]
    return list(zip(names, source.labels.tolist(), strict=True)), str(source.skipped)


def test_each_folder_is_listed_once_for_all_splits_and_processes(scanned, image_folder):
    first = read(image_folder), read(image_folder, "validation")
    assert sorted(scanned) == sorted(["images", "train", "val", *["bag", "coat"] * 2])
    scanned.clear()
    assert (read(image_folder), read(image_folder, "validation")) == first and scanned == []


CHANGES = {
    "added": lambda bag: os.link(bag / "00.png", bag / "new.png"),
    "removed": lambda bag: (bag / "00.png").unlink(),
    "renamed": lambda bag: (bag / "00.png").rename(bag / "zz.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_just_the_folder_that_was_changed_is_listed_anew(
    scanned, image_folder, change, monkeypatch, tmp_path
):
    read(image_folder)
    scanned.clear()
    CHANGES[change](image_folder / "train" / "bag")
    found = read(image_folder)
    assert set(scanned) == {"bag"}
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "empty"))
    assert read(image_folder) == found


def test_a_folder_whose_date_is_new_is_not_believed(scanned, image_folder):
    """Of two changes in the same tick of the disk's clock only the first is seen in its date."""
    bag = image_folder / "train" / "bag"
    os.utime(bag)
    read(image_folder)
    scanned.clear()
    read(image_folder)
    assert set(scanned) == {"bag"}


def test_where_links_lead_is_looked_up_anew(scanned, image_folder, tmp_path):
    target, bag = tmp_path / "elsewhere.png", image_folder / "train" / "bag"
    (bag / "00.png").rename(target)
    (bag / "link.png").symlink_to(target)
    age(image_folder)
    assert ("train/bag/link.png", 0) in read(image_folder)[0]
    target.unlink()
    found, left_out = read(image_folder)
    assert ("train/bag/link.png", 0) not in found and "1 broken links" in left_out


@pytest.mark.parametrize("content", [b"", b"no archive", "cut"])
def test_what_is_damaged_is_listed_anew(scanned, image_folder, tmp_path, content):
    first = read(image_folder)
    [kept] = (tmp_path / "cache" / "folders").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40] if content == "cut" else content)
    scanned.clear()
    assert read(image_folder) == first and "bag" in scanned
    scanned.clear()
    assert read(image_folder) == first and scanned == []


def test_few_are_not_kept(scanned, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "KEPT_FROM", 10_000)
    read(image_folder)
    assert not (tmp_path / "cache").exists()


def test_the_second_process_of_a_machine_lists_nothing_and_looks_at_no_image(
    tmp_path, image_folder, monkeypatch
):
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    age(image_folder)
    driver = str(repo() / "tests" / "data" / "listing_driver.py")
    one, other = json.loads(by_processes(2, driver, image_folder).splitlines()[-1])
    assert one["scanned"] == 7 and one["states"] > 0
    assert other["scanned"] == other["states"] == 0
    for key in ("names", "hash"):
        assert one[key] == other[key] and one[key]


def test_a_list_with_any_bit_flipped_is_listed_again_in_a_warning(scanned, image_folder, capsys):
    """Also the bits that make an archive look encrypted, or of another version."""
    first = read(image_folder)
    [path] = (Path(os.environ["MASKGIT_CACHE"]) / "folders").iterdir()
    whole, told = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        warn_once.cache_clear()
        assert read(image_folder) == first
        told += "folders are listed again" in capsys.readouterr().err
    assert told > len(whole) / 7 / 2
