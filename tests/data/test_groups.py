import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskgit.data.sources import SPLITS, load_source
from maskgit.data.sources.groups import groups_of, validating, validating_apart
from tests.data.conftest import members, write_shard

SHARE = st.floats(0.01, 0.99)
GROUPED = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=2, max_size=60)


@given(GROUPED, SHARE)
def test_no_group_is_in_both_splits_whatever_classes_it_has(rows, share):
    groups = [f"g{group}" for group, _ in rows]
    labels = np.array([label for _, label in rows])
    if len(set(groups)) == 1:
        with pytest.raises(ValueError, match=r"all \d+ images are of one group"):
            validating_apart(groups, labels, share)
        return
    try:
        chosen = validating_apart(groups, labels, share)
    except ValueError as error:
        assert "no group is left to validate" in str(error)
        of = {g: labels[[one == g for one in groups]] for g in set(groups)}
        assert all(
            any(2 * (own == c).sum() > (labels == c).sum() for c in own) for own in of.values()
        ), "each group is most of a class"
        return
    assert any(chosen)
    sides = {
        side: {group for group, one in zip(groups, chosen, strict=True) if one == side}
        for side in (False, True)
    }
    assert not sides[False] & sides[True]
    for label in set(labels.tolist()):
        assert np.array(chosen)[labels == label].mean() <= 0.5, "every class trains"
    backwards = validating_apart(groups[::-1], labels[::-1], share)
    assert backwards[::-1] == chosen, "a function of the names, not of their order"


@given(GROUPED, SHARE)
def test_every_class_of_two_groups_validates(rows, share):
    """Where a group is of one class, as where classes are folders."""
    groups = [f"{label}/{group}" for group, label in rows]
    labels = np.array([label for _, label in rows])
    if len(set(groups)) == 1:
        return
    if len(set(groups)) == len(set(labels.tolist())):
        with pytest.raises(ValueError, match="no group is left to validate"):
            validating_apart(groups, labels, share)
        return
    chosen = np.array(validating_apart(groups, labels, share))
    for label in set(labels.tolist()):
        count = len({g for g, other in zip(groups, labels, strict=True) if other == label})
        assert chosen[labels == label].any() == (count > 1)


def test_the_share_of_groups_is_about_what_is_asked_for():
    groups = [f"walk-{i}" for i in range(2000) for _ in range(3)]
    chosen = np.array(validating_apart(groups, np.zeros(6000, dtype=int), 0.05))
    assert abs(chosen.mean() - 0.05) < 0.02
    hashes = [zlib.crc32(f"walk-{i}".encode()) % 10_000 for i in range(2000)]
    assert chosen[::3].tolist() == [value < 500 for value in hashes]
    assert chosen[::3].tolist() == validating([f"walk-{i}" for i in range(2000)], 0.05)


def test_a_group_is_what_is_found_or_its_part_in_brackets():
    names = ["drakes/fire-fly-3.png", "drakes/fire.png", "elves/scout/scout-2.png", "x"]
    wanted = ["drakes/fire", "drakes/fire", "elves/scout/scout", "x"]
    assert groups_of(names, r"^([^/]+/[^-.]+)") == wanted
    assert groups_of(names, r"^[^/]+/[^-.]+") == wanted
    with pytest.raises(ValueError, match=r"'\(' is no regular expression: missing \)"):
        groups_of(names, "(")
    with pytest.raises(ValueError, match="'walk' is found in none of the names, such as 'drakes/"):
        groups_of(names, "walk")


def test_frames_of_a_folder_stay_together(tmp_path):
    for name in ("drakes", "elves"):
        (tmp_path / name).mkdir()
        for unit in range(4):
            for frame in range(3):
                Image.new("L", (4, 4)).save(tmp_path / name / f"unit{unit}-{frame}.png")
    spec = {"name": "folder", "root": str(tmp_path), "group": "^[^-]+"}
    units = []
    for split in SPLITS:
        source = load_source(spec, split)
        paths = [Path(source.name(i)) for i in range(len(source.labels))]
        units.append({(p.parent.name, p.name.split("-")[0]) for p in paths})
        assert len(paths) == 3 * len(units[-1]), "whole groups"
        assert {name for name, _ in units[-1]} == {"drakes", "elves"}
    assert not units[0] & units[1]
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ValueError, match="has a train folder: leave out data.source.group"):
        load_source(spec, "train")


def test_shards_have_groups_too(tmp_path):
    write_shard(tmp_path / "train-0.tar", members(count=40))
    spec = {"name": "webdataset", "train": str(tmp_path / "train-*.tar"), "group": r"(\d)\.png"}
    digits = []
    for split in SPLITS:
        source = load_source(spec, split)
        digits.append({source.name(i)[-5] for i in range(len(source.labels))})
    assert not digits[0] & digits[1] and digits[0] | digits[1] == set("0123456789")


def test_the_unit_of_a_class_that_has_most_of_its_frames_trains():
    """Whichever of both the hash would choose."""
    for most in ("wose", "ent", "tree", "bush"):
        groups = [most] * 89 + ["small"] * 2 + [f"other{i}" for i in range(40)]
        labels = np.array([0] * 91 + [1] * 40)
        chosen = np.array(validating_apart(groups, labels, 0.3))
        assert not chosen[:89].any() and chosen[89:91].all()
