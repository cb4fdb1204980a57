"""A code cache in the making: what of it is proved, what is left, what is written when."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file
from tqdm import tqdm

from maskgit.data.datasets import ImageDataset
from maskgit.data.manifest import (
    MANIFEST,
    WHERE,
    DamagedError,
    read_manifest,
    read_sealed,
    write_sealed,
)
from maskgit.data.order import chunks_of
from maskgit.data.shards import begun_path, map_tensors, proof_of, shard_path, write_shard
from maskgit.data.views import Encoded, Views, encode_images, hash_images
from maskgit.processes import gather_rows, this_process
from maskgit.stopping import Stopped, check_stop
from vqgan.files import sha256
from vqgan.grids import GridTokenizer
from vqgan.registry import changes

UNFINISHED = "unfinished.json"
"""In a cache's folder, until there is a manifest: what it is to be made of."""
SHARD_ROWS = 8192
"""Rows of a shard: what a process tokenises at a time, and a call that was killed does again."""


class Done(NamedTuple):
    """Some rows of a shard, in order."""

    codes: np.ndarray  # (rows, views, h, w)
    labels: np.ndarray  # (rows,)
    pixels: Any  # a hash of the images of these and all rows before, that can go on
    stop: int  # the images up to this index were looked at


class Cache:
    """A code cache in the making, over all processes; `wanted` says what it is to be made of."""

    def __init__(
        self,
        out: Path,
        model: GridTokenizer,
        datasets: Mapping[str, ImageDataset],
        wanted: Mapping[str, Any],
        batch_size: int,
        workers: int,
    ) -> None:
        self.out, self.model, self.wanted = out, model, wanted
        self.manifest, self.unfinished = out / MANIFEST, out / UNFINISHED
        self.batch_size, self.workers, self.state = batch_size, workers, this_process()
        self.views = {
            split: Views(dataset, training=split == "train") for split, dataset in datasets.items()
        }
        self.shards = {
            split: chunks_of(len(views), SHARD_ROWS) for split, views in self.views.items()
        }

    def make(self, overwrite: bool) -> Path:
        """Whatever is not there, not proved to be of the same images and tokenizer, or damaged."""
        found = {} if overwrite else self._found()
        self.state.wait_for_everyone()  # all have looked before the first one writes
        if overwrite:
            self._empty()
        elif found:
            self._check_same(found)
            if "files" not in found and self._is_whole_of_old(found):
                return self._done("by a version that kept no hashes: --overwrite adds them")
        left = {split: self._left(split, found) for split in self.shards}
        if "sha256" in found and not self._total(sum(map(len, left.values()))):
            self._note_dates(found)
            return self._done()
        self._begin(found)
        for split, numbers in left.items():
            self._write_split(split, numbers)
        self.state.wait_for_everyone()
        self._finish()
        return self.manifest

    def _done(self, how: str = "") -> Path:
        if self.state.is_main_process:
            self.unfinished.unlink(missing_ok=True)
            print(f"{self.out} is tokenised already{how and ', '}{how}", file=sys.stderr)
        return self.manifest

    def _total(self, count: int) -> int:
        """Of all processes."""
        return int(gather_rows(torch.tensor([[count]], device=self.state.device)).sum())

    def _found(self) -> dict[str, Any]:
        """The manifest, or what an unfinished cache was to be made of; empty if neither is good."""
        try:
            if self.manifest.exists():
                return read_manifest(self.out)
            found = read_sealed(self.unfinished) if self.unfinished.exists() else {}
            # no hashes, which a manifest that lies there would have
            return {key: found[key] for key in self.wanted if "format" in found and key in found}
        except DamagedError as error:
            if self.state.is_main_process:
                print(f"{error}; shards that prove themselves are kept", file=sys.stderr)
            return {}

    def _check_same(self, found: Mapping[str, Any]) -> None:
        """ValueError, with the first difference, if the cache is of something else.

        Where the files are known, where they lie does not matter. Other dates than those that were
        seen, or none, are no difference as long as the images are the same.
        """
        ignored = WHERE if "files" in found else ("files", "times")
        for key, value in self.wanted.items():
            if key not in ignored and found.get(key) != value:
                raise ValueError(self._refusal(_difference(key, found, value)))
        if "files" in found and (
            found.get("times") != self.wanted["times"] or not found.get("times")
        ):
            self._check_images()

    def _refusal(self, difference: str) -> str:
        return (
            f"{self.out} holds other codes ({difference}): add --overwrite, which makes it anew, "
            "or choose another --out"
        )

    def _check_images(self) -> None:
        """ValueError if images are not those that proved shards were made of."""
        if self.state.is_main_process:
            print(f"reading all images: are they those of {self.out}?", file=sys.stderr)
        for split in self.shards:
            proofs = self._proofs(split)
            if not all(is_same for _, is_same in self._of_same_pixels(split, proofs)):
                raise ValueError(self._refusal(f"images of {split} were changed since"))

    def _proofs(self, split: str) -> dict[int, dict[str, str]]:
        """Of the shards of this process what each says it was made of, where it says anything."""
        found = {
            number: proof_of(shard_path(self.out, split, number)) for number in self._mine(split)
        }
        return {number: proof for number, proof in found.items() if proof}

    def _of_same_pixels(
        self, split: str, proofs: Mapping[int, Mapping[str, str]]
    ) -> Iterator[tuple[int, bool]]:
        """Of each of these shards, whether it was made of the images that there are."""
        there = {number: self.shards[split][number] for number in proofs}
        for number, pixels in hash_images(self.views[split], there, workers=self.workers):
            yield number, pixels.hexdigest() == proofs[number]["pixels"]

    def _mine(self, split: str) -> range:
        """The shards of this process: every n-th."""
        return range(self.state.process_index, len(self.shards[split]), self.state.num_processes)

    def _left(self, split: str, found: Mapping[str, Any]) -> list[int]:
        """Which of its shards this process has to write: those that do not prove themselves.

        Where nothing is found that knows the dates of images, their pixels are looked at.
        """
        hashes, proved = found.get("sha256", {}), {}
        for number, proof in self._proofs(split).items():
            path = shard_path(self.out, split, number)
            is_made_of_it = proof.get("made of") == self._made_of(split, number)
            if is_made_of_it and (not hashes or hashes.get(path.name) == sha256(path)):
                proved[number] = proof
        good = set(proved) if found else {n for n, ok in self._of_same_pixels(split, proved) if ok}
        return [number for number in self._mine(split) if number not in good]

    def _made_of(self, split: str, number: int) -> str:
        """A hash of all that the codes of a shard depend on, but where the images lie."""
        made_of = {
            key: value for key, value in self.wanted.items() if key not in ("source", "times")
        }
        text = json.dumps([made_of, split, number, SHARD_ROWS], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _is_whole_of_old(self, found: Mapping[str, Any]) -> bool:
        """Whether a cache of version 0.1 has all the shards that it lists."""
        return (
            all(
                shard_path(self.out, split, number).is_file()
                for split, entry in found.get("splits", {}).items()
                for number in range(len(entry["shards"]))
            )
            and "splits" in found
        )

    def _empty(self) -> None:
        """Remove the manifest, then the shards: at no moment does one speak for others."""
        if self.state.is_main_process:
            shards = [
                p for split in self.shards for p in self.out.glob(f"{split}-[0-9]*.safetensors")
            ]
            for old in (self.manifest, self.unfinished, *shards):
                old.unlink(missing_ok=True)
        self.state.wait_for_everyone()

    def _begin(self, found: Mapping[str, Any]) -> None:
        """Say what is being made; a manifest with hashes stays until the new one replaces it."""
        if self.state.is_main_process:
            write_sealed(self.unfinished, self.wanted)
            if "sha256" not in found:  # it would speak for shards of another time
                self.manifest.unlink(missing_ok=True)
        self.state.wait_for_everyone()

    def _finish(self) -> None:
        """Write the manifest, with the hash of each shard."""
        if self.state.is_main_process:
            entries: dict[str, Any] = {}
            hashes: dict[str, str] = {}
            for split, shards in self.shards.items():
                paths = [shard_path(self.out, split, number) for number in range(len(shards))]
                for number, path in enumerate(paths):
                    if proof_of(path).get("made of") != self._made_of(split, number):
                        raise ValueError(
                            f"{path} is of other images or another tokenizer, which were changed "
                            "meanwhile: run the same command again"
                        )
                rows = [len(map_tensors(path)["labels"]) for path in paths]
                skipped = len(self.views[split]) - sum(rows)
                entries[split] = {"skipped": skipped, "shards": rows}
                hashes |= {path.name: sha256(path) for path in paths}
            write_sealed(self.manifest, {**self.wanted, "splits": entries, "sha256": hashes})
            self.unfinished.unlink(missing_ok=True)
        self.state.wait_for_everyone()

    def _note_dates(self, found: Mapping[str, Any]) -> None:
        """Remember where the same images lie now, and their dates."""
        now = {key: self.wanted[key] for key in WHERE}
        if self.state.is_main_process and any(found.get(key) != now[key] for key in WHERE):
            write_sealed(self.manifest, {**found, **now})

    def _write_split(self, split: str, numbers: Sequence[int]) -> None:
        shards, silent = self.shards[split], not self.state.is_main_process
        total = sum(len(shards[number]) for number in numbers)
        begun: dict[int, list[Done]] = {number: [] for number in numbers}
        begun |= self._begun(split, numbers)
        left = {
            number: range(done[-1].stop if done else shards[number].start, shards[number].stop)
            for number, done in begun.items()
        }
        with tqdm(total=total, unit="image", desc=f"tokenise {split}", disable=silent) as bar:
            encoded = encode_images(
                self.model, self.views[split], left, batch_size=self.batch_size,
                workers=self.workers,
            )  # fmt: skip
            for number, parts in groupby(encoded, attrgetter("shard")):
                self._write_one(split, number, begun.pop(number), parts, bar)
            for number, done in begun.items():  # none of whose images is left, or can be read
                self._write_one(split, number, done, (), bar)

    def _write_one(
        self, split: str, number: int, done: list[Done], parts: Iterable[Encoded], bar: tqdm[Any]
    ) -> None:
        """A shard; of one that a signal stops, what is done is kept, and gone on with."""
        path, indices = shard_path(self.out, split, number), self.shards[split][number]
        bar.update(sum(len(part.labels) for part in done))
        try:
            for part in parts:
                check_stop()
                pixels = done[-1].pixels.copy() if done else hashlib.sha256()
                pixels.update(part.pixels)
                done.append(Done(part.codes, part.labels, pixels, part.stop))
                bar.update(len(part.labels))
            if not done:
                raise ValueError(
                    f"none of the images {indices[0]} to {indices[-1]} of {split} could be read"
                )
            self._write(path, split, number, done)
        except Stopped:
            if done:
                about = {"stop": str(done[-1].stop), "batch": str(self.batch_size)}
                self._write(begun_path(path), split, number, done, about)
            raise
        begun_path(path).unlink(missing_ok=True)

    def _write(
        self, path: Path, split: str, number: int, done: Sequence[Done], about: Any = None
    ) -> None:
        about = {"made of": self._made_of(split, number), **(about or {})}
        about["pixels"] = done[-1].pixels.hexdigest()
        codes, labels = ([getattr(part, name) for part in done] for name in ("codes", "labels"))
        write_shard(
            path, np.concatenate(codes), np.concatenate(labels), self.model.codebook_size, about
        )

    def _begun(self, split: str, numbers: Sequence[int]) -> dict[int, list[Done]]:
        """What a stopped call did of shards, where the images and the batches are the same."""
        paths = {number: begun_path(shard_path(self.out, split, number)) for number in numbers}
        proofs, there, done = {}, {}, {}
        for number, path in paths.items():
            proof = proof_of(path)
            is_made_of_it = proof.get("made of") == self._made_of(split, number)
            if is_made_of_it and proof["batch"] == str(self.batch_size):
                start, stop = self.shards[split][number].start, int(proof["stop"])
                proofs[number], there[number] = proof, range(start, stop)
        for number, pixels in hash_images(self.views[split], there, workers=self.workers):
            if pixels.hexdigest() == proofs[number]["pixels"]:
                found, stop = load_file(paths[number]), there[number].stop
                done[number] = [Done(found["codes"], found["labels"], pixels, stop)]
        return done


def _difference(key: str, found: Mapping[str, Any], value: Any) -> str:
    """What a cache was made of and what it would be now; of lists, what is new and what is gone."""
    before = found.get(key)
    if key == "files":
        return "names, sizes or labels of images"
    if isinstance(before, list) and isinstance(value, list):
        return f"{key}: {changes(before, value)}"
    return f"{key}: {before}, now {value}"
