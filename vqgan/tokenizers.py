"""TOKENIZERS: what turns images into grids of codes and back; and how one is made, or loaded.

In a file of weights: `model: {name: vqgan, width: 128, ...}`; the name may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vqgan import weights
from vqgan.grids import GridTokenizer
from vqgan.published.convolutional import PublishedVQGAN
from vqgan.published.magvit2 import PublishedMagvit2
from vqgan.published.titok import TiTok
from vqgan.registry import build
from vqgan.tokenizer import Tokenizer

TOKENIZERS: dict[str, Callable[..., GridTokenizer]] = {
    "tokenizer": Tokenizer,
    "vqgan": PublishedVQGAN,
    "magvit2": PublishedMagvit2,
    "titok": TiTok,
}
"""The first is trained here, and meant where no name is given; the others are for published
weights."""
DEFAULT = next(iter(TOKENIZERS))


def make_tokenizer(model: Mapping[str, Any]) -> GridTokenizer:
    """The tokenizer that the `model` of a file of weights names; ValueError if there is none."""
    spec = model if "name" in model else {"name": DEFAULT, **model}
    return build(TOKENIZERS, spec, "tokenizer")


def load_tokenizer(path: str | Path) -> GridTokenizer:
    """The tokenizer of a file, or of a folder that holds one, in eval mode on the CPU.

    ValueError if it is damaged.
    """
    where = weights.weights_of(path, "tokenizer")
    return weights.load_module(where, "tokenizer", _of)[0].eval()


def load_hashed(path: str | Path) -> tuple[GridTokenizer, dict[str, Any], str]:
    """-> (as `load_tokenizer`, the config of the file, the content hash), of one reading."""
    found, config, content = weights.load_hashed(path, "tokenizer", _of)
    return found.eval(), config, content


def _of(config: Mapping[str, Any]) -> GridTokenizer:
    return make_tokenizer(config["model"])
