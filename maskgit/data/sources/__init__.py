"""SOURCES: where images and labels come from, by functions `(split, **options) -> Source`.

`split` is "train" or "validation". A new data source is one function and one line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from maskgit.data.sources.folders import Tree, folder, imagenet, readable_suffixes
from maskgit.data.sources.hub import huggingface
from maskgit.data.sources.parquet import PARQUET
from maskgit.data.sources.small import cifar10, fashion_mnist, mnist5k, openmoji
from maskgit.data.sources.source import SPLITS, Skipped, Source, check_labels, describe
from maskgit.data.sources.tars import webdataset
from vqgan.registry import build

__all__ = [
    "SOURCES",
    "SPLITS",
    "Skipped",
    "Source",
    "Tree",
    "check_labels",
    "describe",
    "load_source",
    "named",
    "readable_suffixes",
]

SOURCES: dict[str, Callable[..., Source]] = {
    "mnist5k": mnist5k,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "openmoji": openmoji,
    "folder": folder,
    "huggingface": huggingface,
    "webdataset": webdataset,
}


def named(spec: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
    """A source as it is written, or `huggingface` for the path of a .parquet file."""
    if isinstance(spec, str) and spec.endswith(PARQUET):
        return {"name": "huggingface", "path": spec}
    return spec


def load_source(spec: str | Mapping[str, Any], split: str) -> Source:
    """The source that a config names.

    ValueError or FileNotFoundError says what is wrong and how to mend it.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}")
    source = build(SOURCES, named(spec), "data source", split)
    if not len(source.labels):
        left_out = f"; left out: {source.skipped}" if str(source.skipped) else ""
        raise ValueError(f"data source {spec} has no images in its {split} split{left_out}")
    return source
