"""One .safetensors file that carries its own config; what it does not know, it refuses.

Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vqgan.files import replacing

FORMAT = "maskgit-1"
HOW_IT_RUNS = ("checkpointing", "channels_last")


def save_weights(
    path: str | Path, tensors: Mapping[str, Tensor], kind: str, config: Mapping[str, Any]
) -> None:
    """Write `tensors` and `config` (JSON) to `path`; `kind`: what they are, e.g. "tokenizer"."""
    metadata = {"maskgit": json.dumps({"format": FORMAT, "kind": kind, "config": config})}
    with replacing(path) as aside:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            aside,
            metadata,
        )


def load_weights(path: str | Path, kind: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """-> (config with the kind in it, tensors on the CPU).

    FileNotFoundError or ValueError if `path` is not our `kind` of weights (none: any of ours).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("maskgit", "{}"))
            if header.get("format") != FORMAT or kind not in (None, header.get("kind")):
                found = (
                    f"{header.get('format', 'a foreign format')}, "
                    f"kind {header.get('kind', 'unknown')}"
                )
                raise ValueError(f"{path} holds {found}; expected {FORMAT}, kind {kind or 'any'}")
            return header["config"] | {"kind": header["kind"]}, {
                name: file.get_tensor(name) for name in file.keys()
            }
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is cut short: {error}") from error


def content_hash(path: str | Path, kind: str) -> str:
    """A hash of a model and its weights alone, whatever else a file of it carries.

    What only says how it is run does not count, so that files of versions that did not know it stay
    the same model.
    """
    config, tensors = load_weights(path, kind)
    model = {key: value for key, value in config["model"].items() if key not in HOW_IT_RUNS}
    digest = hashlib.sha256(json.dumps(model, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_of(path: str | Path, name: str) -> Path:
    """`path` itself if it is a file, else `path/name.safetensors`.

    FileNotFoundError says how to get it.
    """
    path = Path(path)
    weights = path if path.is_file() else path / f"{name}.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"no {name} at {weights}: train it first (`maskgit train <config>`)"
        )
    return weights
