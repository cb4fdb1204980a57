"""Images in tar shards, as the library webdataset writes them, read at any place.

The members of each shard are found once; where they lie is kept in the cache folder and believed
as long as the shard has the same size and date.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from itertools import chain, compress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Gt, Lt
from PIL import Image

from maskgit.data.npz import read_npz
from maskgit.data.pixels import open_image
from maskgit.data.sources.groups import groups_of, validating, validating_apart
from maskgit.data.sources.names import Names
from maskgit.data.sources.source import Source, natural
from maskgit.machine import cache_folder, warn_once
from vqgan.files import replacing

PICTURES = ("jpg", "jpeg", "png", "webp")
Label = int | str


def webdataset(
    split: str,
    *,
    train: str,
    validation: str | None = None,
    label_key: str = "label",
    class_names: str | None = None,
    validation_share: Annotated[float, Gt(0), Lt(1)] = 0.05,
    group: str | None = None,
) -> Source:
    """Tar shards: train and validation are globs, such as data/imagenet/train-*.tar.

    A sample is a .jpg, .jpeg, .png or .webp with a .cls of the same name (a label or a class), or a
    .json with label_key. Without validation shards a share of the training's samples validates,
    chosen by the hash of their names, or of what the regular expression `group` finds in them: a
    group is in one split. class_names: a text file, a line for each label.
    """
    training = _read(train, label_key, "train")
    found = training
    if validation is not None and split != "train":
        found = _read(validation, label_key, "validation")
    names = _names_of(training, class_names)
    if validation is None:
        if len(found.labels) == 1:
            raise ValueError(f"{train} has one image: add another, one trains and one validates")
        if group is None:
            chosen = validating(found.members, validation_share)
        else:
            apart = groups_of(found.members, group)
            chosen = validating_apart(apart, _numbers(found, names), validation_share)
        found = found.only([other == (split != "train") for other in chosen])
    return Source(found.image, _numbers(found, names), tuple(names), found.name)


class Samples(NamedTuple):
    """Where the images of some shards lie, as workers of any kind get it: no file is open."""

    shards: Names  # their paths
    shard: np.ndarray  # (n,) int32: which one
    places: np.ndarray  # (n, 2) int64: offset and size in bytes
    members: Names  # what they are called there
    labels: Sequence[Label]

    def image(self, index: int) -> Image.Image:
        """A decoded image."""
        offset, size = self.places[index].tolist()
        with open(self.shards[int(self.shard[index])], "rb", buffering=0) as file:
            data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise OSError(f"{self.name(index)} is cut short")
        return open_image(data)

    def name(self, index: int) -> str:
        """Its shard's name and its own, wherever the shards lie."""
        return f"{Path(self.shards[int(self.shard[index])]).name}/{self.members[index]}"

    def only(self, chosen: Sequence[bool]) -> Samples:
        """Those that are chosen, of all."""
        rows = np.array(chosen, dtype=bool)
        members, labels = Names(compress(self.members, chosen)), compress(self.labels, chosen)
        return Samples(self.shards, self.shard[rows], self.places[rows], members, list(labels))


def _read(pattern: str, label_key: str, option: str) -> Samples:
    """The samples of all shards, in the natural order of their names."""
    path = Path(pattern).expanduser()
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    paths = sorted(map(str, found), key=natural)
    if not paths:
        raise FileNotFoundError(
            f"no shards {pattern}: set data.source.{option} to a glob of tar files, such as "
            "data/imagenet/train-*.tar"
        )
    parts = [_index(Path(path), label_key) for path in paths]
    return Samples(
        Names(paths),
        np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.labels) for part in parts]),
        np.concatenate([part.places for part in parts]),
        Names(chain.from_iterable(part.members for part in parts)),
        [label for part in parts for label in part.labels],
    )


class Shard(NamedTuple):
    """The samples of one shard."""

    members: Names
    places: np.ndarray  # (n, 2) int64
    labels: list[Label]


def _index(path: Path, label_key: str) -> Shard:
    """What is kept of a shard, if it is of this file; else it is read, and kept."""
    state = path.stat()
    made_of = [str(path.resolve()), state.st_size, state.st_mtime_ns, label_key]
    key = hashlib.sha256(json.dumps([made_of[0], label_key]).encode()).hexdigest()
    kept = cache_folder() / "webdataset" / f"{key[:24]}.npz"
    if (found := _kept(kept, made_of)) is not None:
        return found
    found = _scan(path, label_key)
    try:
        _keep(kept, made_of, found)
    except OSError as error:
        warn_once(f"the index of {path} is not kept for the next time: {error}")
    return found


def _kept(path: Path, made_of: list[Any]) -> Shard | None:
    """An index, unless it is of another state of the shard, damaged, or not there."""
    try:
        arrays = read_npz(path)
        about = json.loads(arrays["about"].tobytes())
        if about["made of"] != made_of:
            return None
        return Shard(Names(about["members"]), arrays["places"], about["labels"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        warn_once(f"{path} cannot be read ({error}): it is made again")
        return None


def _keep(path: Path, made_of: list[Any], found: Shard) -> None:
    about = {"made of": made_of, "members": list(found.members), "labels": found.labels}
    with replacing(path) as aside, open(aside, "wb") as file:
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        np.savez(file, places=found.places, about=text)


def _scan(path: Path, label_key: str) -> Shard:
    """Read a shard's headers and labels; ValueError if it is no whole tar file, or lacks labels."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, Label] = {}
    try:
        with tarfile.open(path, "r:") as archive, open(path, "rb", buffering=0) as file:
            for member in archive:
                key, suffix = _parts(member.name)
                if member.isreg() and suffix in PICTURES:
                    images[key] = member
                elif member.isreg() and suffix in ("cls", "json"):
                    data = os.pread(file.fileno(), member.size, member.offset_data)
                    label = _label(data, suffix, label_key, f"{path}: {member.name}")
                    if suffix == "cls" or key not in labels:
                        labels[key] = label
            if path.stat().st_size < archive.offset + tarfile.BLOCKSIZE:  # type: ignore[attr-defined]
                raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise ValueError(f"{path} is not a whole, plain tar file: {error}") from error
    if without := [key for key in images if labels.get(key) is None]:
        raise ValueError(
            f"{path}: {len(without)} of {len(images)} images have no .cls and no {label_key} in a "
            f".json ({without[0]}, for one)"
        )
    found = images.values()
    places = np.array([(m.offset_data, m.size) for m in found], dtype=np.int64).reshape(-1, 2)
    return Shard(Names(member.name for member in found), places, [labels[key] for key in images])


def _parts(name: str) -> tuple[str, str]:
    """The name of a sample, and what the member is of it: all after the first dot of its file."""
    folder, _, file = name.rpartition("/")
    key, _, suffix = file.partition(".")
    return f"{folder}/{key}", suffix.lower()


def _label(data: bytes, suffix: str, label_key: str, title: str) -> Any:
    """What a member says; none if it says nothing of it. ValueError if it cannot be read."""
    try:
        if suffix == "json":
            found = json.loads(data)
            found = found.get(label_key) if isinstance(found, Mapping) else None
        else:
            found = data.decode().strip() or None
    except ValueError as error:
        raise ValueError(f"{title} cannot be read: {error}") from error
    if isinstance(found, str) and found.isdecimal():
        return int(found)
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | str)):
        raise ValueError(f"{title} is no label: {found!r}")
    return found


def _names_of(training: Samples, path: str | None) -> list[str]:
    """The classes by label: of a file, else the texts that are labels, else the numbers."""
    if path is not None:
        return Path(path).expanduser().read_text().splitlines()
    known = set(training.labels)
    if len({type(label) for label in known}) > 1:
        raise ValueError("labels are both texts and numbers: write all of them one way")
    if all(isinstance(label, str) for label in known):
        return sorted(map(str, known), key=natural)
    return [str(number) for number in range(max(map(int, known)) + 1)]


def _numbers(found: Samples, names: list[str]) -> np.ndarray:
    """(n,) int64; ValueError for labels that are no class of the training's."""
    index: dict[Label, int] = {name: number for number, name in enumerate(names)}
    index |= {number: number for number in range(len(names))}
    if unknown := [label for label in found.labels if label not in index]:
        raise ValueError(
            f"{Path(found.shards[0]).name}, ...: {len(unknown)} of {len(found.labels)} labels are "
            f"none of the {len(names)} classes ({unknown[0]!r}, for one)"
        )
    return np.array([index[label] for label in found.labels], dtype=np.int64)
