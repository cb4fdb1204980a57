"""The weights inside of a checkpoint: which of its parts, and the plain names of the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

WRAPPERS = (
    *("ema", "ema_state_dict", "ema_params", "vq_ema", "vq"),
    *("model", "state_dict", "model_state_dict", "params", "target"),
)
"""Parts that hold the weights to use: the first that is there. (vq, vq_ema: GEAR-VQ.)"""
BESIDE = ("optim", "disc", "sched", "loss", "scaler")
"""Parts named like this do not hold them."""
PREFIXES = {"module", "_orig_mod"}
"""Parts of names that DataParallel and torch.compile put in."""
AVERAGE = "model_ema"
MAX_DEPTH = 16


def unwrap(root: Mapping[str, Any]) -> tuple[dict[str, Tensor], str | None]:
    """(tensors by their plain names, the parts gone through as `model.state_dict`, or none).

    An average under `model_ema.` (Open-MAGVIT2, IBQ) takes the place of the plain weights; what is
    beside them there, as `model_ema.decay`, stays and says that it was so. What is no tensor is
    dropped. ValueError if two names become one.
    """
    path: list[str] = []
    while len(path) < 2 and (key := _wrapper_of(root, deep=not path)) is not None:
        path.append(key)
        root = root[key]
    return _plain(_averaged(_flat(root))), ".".join(path) or None


def _wrapper_of(root: Mapping[str, Any], deep: bool) -> str | None:
    """The part that holds the weights, if one does; deep: also one of any name, if it is alone."""
    inside = [
        key
        for key, value in root.items()
        if isinstance(key, str) and isinstance(value, Mapping) and _holds_tensors(value)
    ]
    most = max((len(root[key]) for key in inside), default=0)
    for key in WRAPPERS:
        if key in inside and 2 * len(root[key]) >= most:  # else it is how averages are made
            return key
    if not deep or any(isinstance(value, Tensor) for value in root.values()):
        return None
    likely = [key for key in inside if not any(part in key.lower() for part in BESIDE)]
    return likely[0] if len(likely) == 1 else None


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if isinstance(value, Tensor):
        return True
    if not isinstance(value, Mapping) or depth > MAX_DEPTH:
        return False
    return any(_holds_tensors(part, depth + 1) for part in value.values())


def _flat(tree: Mapping[str, Any], depth: int = 0) -> dict[str, Tensor]:
    """Nested names joined by dots."""
    out: dict[str, Tensor] = {}
    for key, value in tree.items():
        if isinstance(value, Tensor) and isinstance(key, str):
            _put(out, key, value)
        elif isinstance(value, Mapping) and isinstance(key, str) and depth < MAX_DEPTH:
            for name, tensor in _flat(value, depth + 1).items():
                _put(out, f"{key}.{name}", tensor)
    return out


def _put(out: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    if name in out:
        raise ValueError(f"two tensors are named {name!r}")
    out[name] = tensor


def _averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor's average, whose name is the tensor's without dots, in its place."""
    averages = {"".join(_parts(name)[1:]): name for name in tensors if _is_average(name)}
    out, used = {}, set()
    for name, tensor in tensors.items():
        if not _is_average(name):
            of_it = averages.get(name.replace(".", "")) or averages.get("".join(_parts(name)))
            out[name] = tensors[of_it] if of_it else tensor
            used.add(of_it)
    return out | {name: tensors[name] for name in averages.values() if name not in used}


def _is_average(name: str) -> bool:
    return _parts(name)[0] == AVERAGE


def _parts(name: str) -> list[str]:
    """Of a name, without what wrappers of modules put in."""
    return [part for part in name.split(".") if part not in PREFIXES] or [name]


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers of modules put in."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        _put(out, ".".join(_parts(name)), tensor)
    return out
