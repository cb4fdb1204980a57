"""Tokenise a data set once, over all processes, into the cache that maskgit.data.codes reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskgit.config.sections import DataConfig, TokenizerConfig
from maskgit.data.cache import Cache
from maskgit.data.datasets import ImageDataset, Quarantine, report, transform_of
from maskgit.data.fingerprint import agreed
from maskgit.data.manifest import FORMAT
from maskgit.data.pixels import Transform
from maskgit.data.sources import SPLITS, Source, load_source
from maskgit.processes import first_on_node, held, this_process
from vqgan.grids import GridTokenizer
from vqgan.tokenizers import load_hashed
from vqgan.weights import load_weights, weights_of


def describe(
    tokenizer_sha256: str,
    tokenizer: GridTokenizer,
    spec: Any,
    sources: Mapping[str, Source],
    transform: Transform,
) -> dict[str, Any]:
    """The part of a manifest that says which images and which tokenizer a cache is good for.

    spec: how the config names the data source; sources: split -> what was found there.
    """
    return {
        "format": FORMAT,
        "tokenizer_sha256": tokenizer_sha256,
        "codebook_size": tokenizer.codebook_size,
        **({"codes_per_cell": tokenizer.codes_per_cell} if tokenizer.codes_per_cell > 1 else {}),
        "source": json.loads(json.dumps(spec)),
        "images": {split: len(source.labels) for split, source in sources.items()},
        "class_names": list(next(iter(sources.values())).class_names),
        "transform": {key: value for key, value in asdict(transform).items() if value is not None},
        **agreed(sources),
    }


def tokenizer_data(tokenizer: str | Path) -> DataConfig:
    """The data section that a tokenizer was trained with, from its weights' metadata."""
    return _data_of(tokenizer, load_weights(weights_of(tokenizer, "tokenizer"), "tokenizer")[0])


def _data_of(tokenizer: str | Path, config: Mapping[str, Any]) -> DataConfig:
    if "run" not in config:
        raise ValueError(
            f"{tokenizer} does not say what data it was trained on: "
            "name a config with a data section (tokenize --config, evaluate --reference)"
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
    """Write the code cache `out` -> its manifest's path; run again, it continues, or mends.

    tokenizer: a run folder or a weights file; data: by default what the tokenizer was trained on.
    ValueError if `out` holds the codes of another tokenizer, of other images or of another
    transform, and not `overwrite`, which makes all anew.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is 1 or more, not {batch_size}")
    out, weights = Path(out), weights_of(tokenizer, "tokenizer")
    with held(out, "tokenize"):
        model, config, model_hash = load_hashed(weights)
        data = data or _data_of(tokenizer, config)
        _check_fits(model, data)
        transform = transform_of(data)
        spec = data.source
        sources = first_on_node(lambda: {split: load_source(spec, split) for split in splits})
        if len({source.class_names for source in sources.values()}) > 1:
            raise ValueError(
                f"the splits of {data.source} have different classes: their labels would not agree"
            )
        datasets = {
            split: ImageDataset(
                source, transform, quarantine=Quarantine(out / "quarantine.jsonl", split)
            )
            for split, source in sources.items()
        }
        report(sources, datasets.values())
        wanted = describe(model_hash, model, data.source, sources, transform)
        model.to(this_process().device)
        return Cache(out, model, datasets, wanted, batch_size, data.workers).make(overwrite)


def _check_fits(model: GridTokenizer, data: DataConfig) -> None:
    """ValueError if the tokenizer takes other images."""
    model.check_size(data.image_size, data.image_size)
    if data.channels != model.channels:
        raise ValueError(
            f"the tokenizer takes {model.channels} channels, data.channels={data.channels}"
        )
