"""Read the tensors of a published file or folder, whatever container they are in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskgit.importing.containers import container_of
from maskgit.importing.msgpack import load_msgpack
from maskgit.importing.unpickling import load_torch
from maskgit.importing.unwrapping import unwrap

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Of a folder as the Hugging Face hub holds it."""


class Foreign(NamedTuple):
    """Weights of another project, under its own names."""

    tensors: dict[str, Tensor]
    """On the CPU, finite; views of the mapped file where the container allows."""
    config: dict[str, Any]
    """The config.json of a folder, or beside a safetensors file; else empty."""
    path: Path
    sha256: str
    wrapper: str | None
    """The part of the file that holds the weights, as `model_state_dict`; none: all of it."""


def read_tensors(path: str | Path, known: Sequence[str] = ()) -> Foreign:
    """The weights in a file, or in a folder with config.json and model.safetensors or one file, or
    one of the `known` names.

    Containers, told by their content: safetensors, torch.save (also before 1.6), msgpack of flax.
    Averages (`ema`) are preferred, and prefixes of wrappers removed (see `unwrap`). Nothing of a
    file is run. FileNotFoundError, or ValueError in one line that says what the file looks like.
    """
    file = _file_of(Path(path), known)
    tree, foreign = _tree(file)
    if not isinstance(tree, Mapping):
        raise ValueError(f"{file} holds a {type(tree).__name__}, not tensors by name{foreign}")
    try:
        tensors, wrapper = unwrap(tree)
        if not tensors:
            raise ValueError(
                f"no tensors by name, but {_some(map(str, tree)) or 'nothing'}{foreign}"
            )
        tensors = {name: _checked(name, tensor, file) for name, tensor in tensors.items()}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return Foreign(tensors, _config_of(Path(path), file), file, sha256_of(file), wrapper)


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tree(file: Path) -> tuple[Any, str]:
    """(what is in a file, a note on foreign classes in it)."""
    container = container_of(file)
    if container == "safetensors":
        try:
            return load_file(file), ""
        except SafetensorError as error:
            raise ValueError(
                f"{file} is safetensors, cut short or damaged: download it again ({error})"
            ) from None
    if container == "msgpack":
        return load_msgpack(file), ""
    tree, names = load_torch(file, legacy=container == "torch legacy")
    note = f" (and objects of {_some(names)}: a whole model was pickled? save its state_dict)"
    return tree, note if names else ""


def _file_of(path: Path, known: Sequence[str]) -> Path:
    """The one file of weights that is meant."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    candidates = [file for file in sorted(path.iterdir()) if file.is_file() and _is_weights(file)]
    names_of = {Path(name).name for name in known}
    candidates = [file for file in candidates if file.name in names_of] or candidates
    if len(candidates) != 1:
        names = _some(file.name for file in candidates) or "none"
        raise ValueError(f"{path} should hold one file of weights; give its path (there: {names})")
    return candidates[0]


def _is_weights(file: Path) -> bool:
    try:
        return bool(container_of(file))
    except ValueError:
        return False


def _config_of(asked: Path, file: Path) -> dict[str, Any]:
    """The config of a folder as the hub holds it; a .pth lies beside files of others."""
    path = file.parent / CONFIG
    if not path.is_file() or not (asked.is_dir() or file.name == WEIGHTS):
        return {}
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} should hold names and values")
    return config


def _some(names: Any, count: int = 8) -> str:
    """The first few of many names."""
    listed = list(names)
    return ", ".join(listed[:count]) + (f" and {len(listed) - count} more" * (len(listed) > count))


FLAWS: dict[str, Callable[[Tensor], bool]] = {
    "sparse": lambda t: t.layout != torch.strided,
    "quantised": lambda t: t.is_quantized,
    "complex": lambda t: t.is_complex(),
    "without values (it lies on the device meta)": lambda t: t.device.type != "cpu",
}
"""What weights are not -> whether a tensor is."""


def _checked(name: str, tensor: Tensor, file: Path) -> Tensor:
    """The tensor, without gradients; ValueError if no net here could hold it."""
    for flaw, found in FLAWS.items():
        if found(tensor):
            raise ValueError(f"the tensor {name!r} is {flaw}: save it as a plain one")
    if tensor.numel() * tensor.element_size() > max(file.stat().st_size, 1024):
        raise ValueError(f"the tensor {name!r} of shape {tuple(tensor.shape)} exceeds its file")
    tensor = tensor.detach()
    if tensor.is_floating_point() and not _is_finite(tensor):
        raise ValueError(f"the tensor {name!r} holds nan or inf: download it again, or mend it")
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    """Without a copy of it: of float8, which has no order, in pieces."""
    if not tensor.numel():
        return True
    if tensor.element_size() > 1:
        low, high = tensor.aminmax()
        return bool(torch.isfinite(low) and torch.isfinite(high))
    return all(
        bool(torch.isfinite(part.float()).all()) for part in tensor.reshape(-1).split(1 << 20)
    )
