"""Tokenise a data set once, over all processes, into the cache that maskgit.data.codes reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from maskgit.config.sections import DataConfig, TokenizerConfig
from maskgit.data.codes import FORMAT, shard_path
from maskgit.data.datasets import Batch, ImageDataset, Quarantine, report, transform_of
from maskgit.data.order import batches
from maskgit.data.pixels import MIRRORED, PLAIN, Transform, to_float
from maskgit.data.sources import SPLITS, Source, load_source
from maskgit.processes import PartialState, this_process
from vqgan.files import replacing
from vqgan.tokenizer import Tokenizer
from vqgan.weights import content_hash, load_weights, weights_of

SHARD_ROWS = 8192
"""Rows of a shard: what a process tokenises at a time, and a call that was cut short does again."""


def smallest_dtype(codebook_size: int) -> np.dtype[Any]:
    """uint8, uint16 or int32: the smallest that holds every code."""
    return np.dtype(
        np.uint8 if codebook_size <= 2**8 else np.uint16 if codebook_size <= 2**16 else np.int32
    )


class Views:
    """The images of a data set in all their views, for a cache; corrupt ones are left out."""

    def __init__(self, dataset: ImageDataset, *, training: bool = True) -> None:
        self.dataset = dataset
        self.draws = [PLAIN, MIRRORED] if training and dataset.transform.flip else [PLAIN]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """-> images: (good ones, views, channels, height, width) uint8, and their labels."""
        rows = [
            (index, [self.dataset.read(index, np.array(draws)) for draws in self.draws])
            for index, _ in keys
        ]
        good = [(index, np.stack(views)) for index, views in rows if views[0] is not None]  # type: ignore[arg-type]
        if not good:
            return Batch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
        labels = self.dataset.source.labels[[index for index, _ in good]]
        return Batch(
            torch.from_numpy(np.stack([views for _, views in good])), torch.from_numpy(labels)
        )


def encode_images(
    tokenizer: Tokenizer, views: Views, indices: Sequence[int], *, batch_size: int, workers: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (codes (rows, views, h, w), labels (rows,))."""
    device = next(tokenizer.parameters()).device
    size = max(1, batch_size // len(views.draws))
    order = [
        [(i, 0) for i in indices[start : start + size]] for start in range(0, len(indices), size)
    ]
    for batch in batches(views, order, workers=workers):
        if len(batch.labels):
            codes = tokenizer.encode(to_float(batch.data.to(device).flatten(0, 1)))
            yield codes.unflatten(0, batch.data.shape[:2]).cpu().numpy(), batch.labels.numpy()


def write_shard(path: Path, codes: np.ndarray, labels: np.ndarray, codebook_size: int) -> None:
    """Write one shard under a temporary name, then rename it."""
    with replacing(path) as aside:
        save_file(
            {
                "codes": codes.astype(smallest_dtype(codebook_size)),
                "labels": labels,
            },
            aside,
        )


def describe(
    tokenizer_path: str | Path,
    tokenizer: Tokenizer,
    spec: Any,
    sources: Mapping[str, Source],
    transform: Transform,
) -> dict[str, Any]:
    """The part of a manifest that says which images and which tokenizer a cache is good for.

    spec: how the config names the data source; sources: split -> what was found there.
    """
    return {
        "format": FORMAT,
        "tokenizer_sha256": content_hash(tokenizer_path, "tokenizer"),
        "codebook_size": tokenizer.codebook_size,
        **({"codes_per_cell": tokenizer.codes_per_cell} if tokenizer.codes_per_cell > 1 else {}),
        "source": json.loads(json.dumps(spec)),
        "images": {split: len(source.labels) for split, source in sources.items()},
        "class_names": list(next(iter(sources.values())).class_names),
        "transform": {key: value for key, value in asdict(transform).items() if value is not None},
    }


def tokenizer_data(tokenizer: str | Path) -> DataConfig:
    """The data section that a tokenizer was trained with, from its weights' metadata."""
    config, _ = load_weights(weights_of(tokenizer, "tokenizer"), "tokenizer")
    if "run" not in config:
        raise ValueError(
            f"{tokenizer} does not say what data it was trained on: "
            "pass a config with a data section"
        )
    return TokenizerConfig.model_validate(config["run"]).data


def tokenize_dataset(
    tokenizer: str | Path,
    out: str | Path,
    data: DataConfig | None = None,
    *,
    splits: Sequence[str] = SPLITS,
    batch_size: int = 128,
    overwrite: bool = False,
) -> Path:
    """Write the code cache `out` -> its manifest's path; run again, it continues.

    tokenizer: a run folder or a weights file; data: by default what the tokenizer was trained on.
    ValueError if `out` holds the codes of another tokenizer, source or transform and not
    `overwrite`.
    """
    state, out = this_process(), Path(out)
    weights = weights_of(tokenizer, "tokenizer")
    model = Tokenizer.load(weights).to(state.device)
    data = data or tokenizer_data(tokenizer)
    if (data.channels, data.image_size % model.downscale) != (model.channels, 0):
        model.check_size(data.image_size, data.image_size)
        raise ValueError(
            f"the tokenizer takes {model.channels} channels, data.channels={data.channels}"
        )
    transform = transform_of(data)
    sources = {split: load_source(data.source, split) for split in splits}
    if len({source.class_names for source in sources.values()}) > 1:
        raise ValueError(
            f"the splits of {data.source} have different classes: their labels would not agree"
        )
    wanted = describe(weights, model, data.source, sources, transform)
    manifest, parts = out / "manifest.json", out / "unfinished.json"
    if _same_or_overwrite(out, wanted, overwrite, state) and _is_complete(out):
        if state.is_main_process:
            print(f"{out} is tokenised already", file=sys.stderr)
        return manifest
    if state.is_main_process:
        with replacing(parts) as aside:
            aside.write_text(json.dumps(wanted))
    state.wait_for_everyone()
    datasets = {
        split: ImageDataset(
            source, transform, quarantine=Quarantine(out / "quarantine.jsonl", split)
        )
        for split, source in sources.items()
    }
    report(sources, datasets.values())
    entries: dict[str, Any] = {}
    for split, dataset in datasets.items():
        views = Views(dataset, training=split == "train")
        rows = _write_split(model, views, out, split, state, batch_size, data.workers)
        entries[split] = {"skipped": len(dataset) - sum(rows), "shards": rows}
    if state.is_main_process:
        with replacing(manifest) as aside:
            aside.write_text(json.dumps({**wanted, "splits": entries}, indent=1) + "\n")
        parts.unlink()
    state.wait_for_everyone()
    return manifest


def _is_complete(out: Path) -> bool:
    """Whether there is a manifest, and every shard it lists."""
    if not (out / "manifest.json").is_file():
        return False
    splits = json.loads((out / "manifest.json").read_text())["splits"].items()
    return all(
        shard_path(out, split, n).is_file()
        for split, entry in splits
        for n in range(len(entry["shards"]))
    )


def _same_or_overwrite(
    out: Path, wanted: dict[str, Any], overwrite: bool, state: PartialState
) -> bool:
    """Whether `out` holds (part of) what is wanted; it is emptied if not and `overwrite`."""
    path = next((p for p in (out / "manifest.json", out / "unfinished.json") if p.is_file()), None)
    found = json.loads(path.read_text()) if path is not None else {}
    state.wait_for_everyone()  # all have looked before the first one writes
    if not found:
        return False
    different = [key for key, value in wanted.items() if found.get(key) != value]
    if not different:
        return True
    if not overwrite:
        key = different[0]
        raise ValueError(
            f"{out} holds other codes ({key}: {found.get(key)}, now {wanted[key]}): add --overwrite"
        )
    if state.is_main_process:
        for old in (out / "manifest.json", out / "unfinished.json", *out.glob("*.safetensors")):
            old.unlink(missing_ok=True)
    state.wait_for_everyone()
    return False


def _write_split(
    model: Tokenizer,
    views: Views,
    out: Path,
    split: str,
    state: PartialState,
    batch_size: int,
    workers: int,
) -> list[int]:
    """Process r of n writes every n-th shard that is not there yet -> the rows of all shards."""
    starts = range(0, len(views), SHARD_ROWS)
    shards = [range(start, min(start + SHARD_ROWS, len(views))) for start in starts]
    mine = range(state.process_index, len(shards), state.num_processes)
    left = [number for number in mine if not shard_path(out, split, number).is_file()]
    total = sum(len(shards[number]) for number in left)
    with tqdm(
        total=total, unit="image", desc=f"tokenise {split}", disable=not state.is_main_process
    ) as bar:
        for number in left:
            codes, labels = [], []
            for some_codes, some_labels in encode_images(
                model, views, shards[number], batch_size=batch_size, workers=workers
            ):
                codes.append(some_codes)
                labels.append(some_labels)
                bar.update(len(some_labels))
            if not codes:
                first, last = shards[number][0], shards[number][-1]
                raise ValueError(f"none of the images {first} to {last} of {split} could be read")
            path = shard_path(out, split, number)
            write_shard(path, np.concatenate(codes), np.concatenate(labels), model.codebook_size)
    state.wait_for_everyone()
    return [_num_rows(shard_path(out, split, number)) for number in range(len(shards))]


def _num_rows(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return int(file.get_slice("labels").get_shape()[0])
