"""Damage to a code cache, and kills of what makes it: named or harmless, and mended to the bit by
the same command."""

import random
import shutil
import sys

import pytest

from maskgit.config.sections import DataConfig
from maskgit.data import cache
from maskgit.data.codes import CodeDataset
from maskgit.data.tokenization import tokenize_dataset
from tests.data.conftest import make_tokenizer
from tests.faults.conftest import cases, harm

pytestmark = pytest.mark.faults


class Place:
    """A cache's folder, the command that makes it, and what it should hold."""

    def __init__(self, top, data):
        self.out, self.data = top / "codes", data
        self.tokenizers = [make_tokenizer(top / f"{n}.safetensors", seed=n) for n in (0, 1)]
        self.tokenize()
        self.files, self.grids = self.kept(), self.read()

    def tokenize(self, tokenizer=0, **options):
        return tokenize_dataset(self.tokenizers[tokenizer], self.out, self.data, **options)

    def kept(self):
        """What a cache is, without what is known about it."""
        paths = [*self.out.glob("*.safetensors"), self.out / "manifest.json"]
        return {path.name: path.read_bytes() for path in paths}

    def read(self):
        """All that a training takes from it; none if it is refused in a line that names it."""
        try:
            splits = [CodeDataset(self.out, split) for split in ("train", "validation")]
        except (ValueError, FileNotFoundError) as error:
            assert str(self.out) in str(error) and "\n" not in str(error)
            assert "maskgit tokenize" in str(error)
            return None
        keys = [[(index, 0) for index in range(len(split))] for split in splits]
        rows = [split.__getitems__(k) for split, k in zip(splits, keys, strict=True)]
        told = {k: v for k, v in splits[0].manifest.items() if k not in ("source", "times")}
        return told, [(row.data.tolist(), row.labels.tolist()) for row in rows]

    def copied_from(self, whole):
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(whole, self.out)


@pytest.fixture
def place(tmp_path, image_folder, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_ROWS", 9)
    source = {"name": "folder", "root": str(image_folder)}
    found = Place(tmp_path, DataConfig(source=source, image_size=16, channels=1, flip=True))
    shutil.copytree(found.out, tmp_path / "whole")
    return found


def damage(folder, draws):
    """Harm to the files of a cache, also that one stands in the place of another."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if draws.random() < 0.9:
        return harm(paths, draws)
    path, other = draws.sample(sorted(paths), 2)
    path.write_bytes(other.read_bytes())
    return "copy", path.name, other.name


def test_damage_is_named_or_harmless_and_mended_to_the_bit(place, tmp_path, tally):
    draws, count, passed = random.Random(0), cases(60, 300), 0
    for _ in range(count):
        place.copied_from(tmp_path / "whole")
        how = damage(place.out, draws)
        found = place.read()
        place.tokenize()
        good = found in (None, place.grids) and place.kept() == place.files
        passed += good
        if not good:
            print(*how, "changed codes" if found not in (None, place.grids) else "not mended")
    tally("flips, cuts, swaps: code caches", passed, count)


def test_an_unfinished_cache_that_is_damaged_is_finished_to_the_bit(place, tmp_path, tally):
    draws, count, passed = random.Random(1), cases(20, 100), 0
    place.copied_from(tmp_path / "whole")
    killed = Killing(place, 14)
    with killed:
        place.tokenize(overwrite=True)
    assert (place.out / "unfinished.json").is_file() and list(place.out.glob("*.safetensors"))
    shutil.copytree(place.out, tmp_path / "unfinished")
    for _ in range(count):
        place.copied_from(tmp_path / "unfinished")
        how = damage(place.out, draws)
        found = place.read()
        place.tokenize()
        good = found is None and place.kept() == place.files
        passed += good
        if not good:
            print(*how)
    tally("flips, cuts, swaps: unfinished code caches", passed, count)


class Killed(BaseException):
    """No process goes on after it: whatever file it would touch next, it does not."""


class Killing:
    """Inside, the process is dead from its n-th call on that changes files of a cache."""

    hooked = None

    def __init__(self, place, number):
        self.folder, self.left = str(place.out), number

    def __enter__(self):
        if Killing.hooked is None:  # a hook stays for ever
            sys.addaudithook(Killing.watch)
        Killing.hooked = self

    def __exit__(self, kind, error, trace):
        Killing.hooked = False
        return kind is Killed

    @staticmethod
    def watch(event, arguments):
        """An audit hook."""
        self = Killing.hooked
        if not self or not arguments or not str(arguments[0]).startswith(self.folder):
            return
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wa"
        if writes or event in ("os.rename", "os.remove", "os.chmod", "os.mkdir"):
            self.left -= 1
            if self.left < 0:
                raise Killed


WORK = {
    "anew": lambda place: shutil.rmtree(place.out),
    "overwrite": lambda place: None,
    "another": lambda place: place.tokenize(1, overwrite=True),
    "mend": lambda place: [p.write_bytes(b"x") for p in place.out.glob("train-*.safetensors")],
    "damaged manifest": lambda place: (place.out / "manifest.json").write_bytes(b"x"),
}
"""What was there before the command that is killed."""


@pytest.mark.parametrize("before", WORK)
def test_killed_at_any_call_nothing_half_is_read_and_the_same_command_finishes_to_the_bit(
    place, tmp_path, tally, before
):
    options = {"overwrite": True} if before in ("overwrite", "another") else {}
    passed, count, ended = 0, 0, False
    for number in range(0, 100, cases(4, 1)):
        place.copied_from(tmp_path / "whole")
        WORK[before](place)
        old = place.read()
        with Killing(place, number) as _:
            place.tokenize(**options)
            ended = True
        found = place.read()
        place.tokenize(**options)
        count += 1
        passed += found in (None, old, place.grids) and place.kept() == place.files
        if ended:
            break
    assert ended and count > 2
    tally(f"SIGKILL at single calls: tokenize, {before}", passed, count)
