"""One .safetensors file that carries its own config; what it does not know, it refuses.

Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from vqgan.files import replacing

FORMAT = "maskgit-1"
HOW_IT_RUNS = ("checkpointing", "channels_last")
PRECISIONS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
REPEATS = ("depth", "num_blocks", "num_layers", "codes_per_cell")
"""Options that say how often something is built: no more often than there are tensors."""
MOST_REPEATS = 10_000
"""Of them where there is no file yet."""
DEEPEST = 50
"""Levels of a header's config."""
LENGTH, LONGEST = "a list's length", 2**12
"""What lists are asked for, and their most values."""
LARGEST = 2**20
"""Of other numbers of a model, such as its size in pixels or codes, unless the file holds more."""
TABLES = 2**26
"""Numbers that a model may make beside those of its file, such as a vector for each code."""

TRAINED = 16
"""Bytes of each number in training: itself, its gradient and two moments."""

Module = TypeVar("Module", bound=nn.Module)


def save_weights(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    kind: str,
    config: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> str:
    """Write `tensors` and `config` (JSON) to `path`; `kind`: what they are, e.g. "tokenizer".

    dtype: of what is float32, where all of it is finite in that; modules are float32 again when
    they are loaded. -> the hash of all of it, which the file carries too.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if dtype is not None:
        tensors = {name: _stored(tensor, dtype) for name, tensor in tensors.items()}
    config = json.loads(json.dumps(config))
    digest = _digest(kind, config, tensors)
    header = {"format": FORMAT, "kind": kind, "config": config, "sha256": digest}
    with replacing(path) as aside:
        save_file(tensors, aside, {"maskgit": json.dumps(header)})
    return digest


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As `dtype`, if it is float32 and none of its numbers is too large for that."""
    if tensor.dtype != torch.float32:
        return tensor
    stored = tensor.to(dtype)
    return stored if torch.equal(stored.isfinite(), tensor.isfinite()) else tensor


def _digest(kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return hash_of(json.dumps([kind, config], sort_keys=True), tensors)


def hash_of(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of a text and named tensors, whatever device these are on."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _header(file: Any, path: Path, kind: str | None) -> dict[str, Any]:
    """What a file of ours says of itself; ValueError if it is none, or of another kind."""
    try:
        header = json.loads((file.metadata() or {}).get("maskgit", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header is no JSON ({error})") from error
    header = header if isinstance(header, dict) else {}
    if header.get("format") != FORMAT or kind not in (None, header.get("kind")):
        found = f"{header.get('format', 'a foreign format')}, kind {header.get('kind', 'unknown')}"
        found = " ".join(found.split())
        raise ValueError(f"{path} holds {found}; expected {FORMAT}, kind {kind or 'any'}")
    if not isinstance(header.get("config"), dict) or not isinstance(header["kind"], str):
        raise ValueError(f"{path} is damaged: its header has no config")
    if _is_deep(header["config"]):
        raise ValueError(f"{path} is damaged: its header is nested in more than {DEEPEST} levels")
    return header


def _is_deep(value: Any) -> bool:
    """Whether a value of JSON is nested so deeply that what walks through it may fail."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [
            part.values() if isinstance(part, dict) else part
            for part in level
            if isinstance(part, dict | list)
        ]
        level = [part for parts in inner for part in parts]
    return bool(level)


def recorded_hash(path: str | Path, kind: str) -> str | None:
    """The hash that a file carries, which `load_weights` has verified; none in files of 0.1."""
    with safe_open(path, framework="pt") as file:
        found: str | None = _header(file, Path(path), kind).get("sha256")
    return found


def load_weights(path: str | Path, kind: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """-> (config with the kind in it, tensors on the CPU).

    FileNotFoundError or ValueError if `path` is not our `kind` of weights (none: any of ours), if
    it is not as it was written, or if a number in it is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file, path, kind)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is cut short: {error}") from error
    config = header["config"]
    if "sha256" in header and header["sha256"] != _digest(header["kind"], config, tensors):
        raise ValueError(f"{path} is damaged: it is not as it was written")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype not in PRECISIONS:
            raise ValueError(f"{path} holds numbers that are not ours: {name} is {tensor.dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path} is damaged: not all numbers of {name} are finite")
    return config | {"kind": header["kind"]}, tensors


def load_module(
    path: str | Path, kind: str, make: Callable[[Mapping[str, Any]], Module]
) -> tuple[Module, dict[str, Any]]:
    """-> (the module that `make` makes of a file's config, with its weights; that config).

    Nothing is made in memory before the tensors of the file are known to fit. ValueError names
    what does not.
    """
    return _load(path, kind, make)[:2]


def load_hashed(
    path: str | Path, kind: str, make: Callable[[Mapping[str, Any]], Module]
) -> tuple[Module, dict[str, Any], str]:
    """-> (as `load_module`, and the `content_hash`), of one reading.

    The file may be replaced at any moment, by a training that goes on.
    """
    module, config, tensors = _load(path, kind, make)
    return module, config, _content(config, tensors)


def _load(
    path: str | Path, kind: str, make: Callable[[Mapping[str, Any]], Module]
) -> tuple[Module, dict[str, Any], dict[str, Tensor]]:
    config, tensors = load_weights(path, kind)
    _check_fit(_on_meta(path, kind, make, config, tensors), tensors, path)
    module = make(config)
    module.load_state_dict(tensors)
    return module, config, tensors


def _on_meta(
    path: str | Path,
    kind: str,
    make: Callable[[Mapping[str, Any]], Module],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Module:
    """What `make` makes of a header, without memory.

    ValueError if it cannot be, or once it has many more parameters than the file has tensors.
    """
    _check_bounds(config, tensors, path)
    most = 2 * len(tensors) + 100  # one that is parametrized is registered twice
    try:
        with without_memory(most, f"the {len(tensors)} tensors of the file"):
            return make(config)
    except Exception as error:  # whatever a made-up header leads to
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} has a header that no {kind} can be made of: {said}") from error


@contextmanager
def without_memory(most: int = 100_000, than: str = "can be") -> Iterator[None]:
    """Inside, what is made lies on `meta`; ValueError once it has more than `most` parameters.

    than: what it has more parameters than, in words.
    """
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise ValueError(f"it has more parameters than {than}")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _Unfilled():
            yield
    finally:
        hook.remove()


class _Unfilled(TorchFunctionMode):
    """What fills or scales a tensor leaves it as it is: on `meta` there are no numbers, and torch
    would import its compiler for them, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in FILLING:
            return next(iter((*args, *given.values())))
        return func(*args, **given)


FILLING = {
    "normal_", "uniform_", "trunc_normal_", "xavier_normal_", "xavier_uniform_", "kaiming_normal_",
    "kaiming_uniform_", "orthogonal_", "normalize",
}  # fmt: skip
"""Of tensors, of torch.nn.init and torch.nn.functional."""


def within_memory(make: Callable[[], Module], what: str) -> Module:
    """What `make` makes to be trained, once it is known to fit into this machine's memory.

    ValueError, with its size, if it does not; what: the section of a config, for the message.
    """
    try:
        with without_memory():
            made = make()
            parts = (*made.parameters(), *made.buffers())
    except (RuntimeError, ValueError) as error:  # also sizes whose product has no 64 bits
        raise ValueError(f"{what} is larger than can be: {str(error).splitlines()[0]}") from error
    count = sum(part.numel() for part in parts)
    needed, there = TRAINED * count, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"{what} has {count:.3g} numbers, whose training takes {needed / 2**30:.3g} GiB; here "
            f"are {there / 2**30:.3g}: take a smaller one"
        )
    return make()


def _check_fit(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """ValueError unless a module on `meta` is of these tensors, and makes few numbers beside."""
    wanted = module.state_dict()
    for name in (*wanted, *tensors):
        like = [_like(side[name]) if name in side else "none" for side in (wanted, tensors)]
        if like[0] != like[1]:
            raise ValueError(f"{path} does not fit its header: {name} is {like[1]}, not {like[0]}")
    made = sum(part.numel() for part in (*module.parameters(), *module.buffers()))
    if made - sum(tensor.numel() for tensor in tensors.values()) > TABLES:
        raise ValueError(f"{path} has a header that cannot be: it asks for {made} numbers")


def _like(tensor: Tensor) -> str:
    """Shape, and kind of numbers; their precision is free."""
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else f' {tensor.dtype}'}"


def _check_bounds(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Any) -> None:
    """ValueError if a number of the model is larger than anything that is in the file."""
    if not isinstance(config.get("model"), dict):
        raise ValueError(f"{path} is damaged: its header has no model")
    largest = max(LARGEST, sum(tensor.numel() for tensor in tensors.values()))
    check_numbers(config["model"], f"{path} has a header", max(len(tensors), 1), largest)


def check_numbers(
    model: Any, whose: str, repeats: int = MOST_REPEATS, largest: float = math.inf
) -> None:
    """ValueError if a number in the options of a model has no end; whose: for the message."""
    limits = {LENGTH: LONGEST, **dict.fromkeys(REPEATS, repeats)}
    for key, number in _numbers("model", model):
        if abs(number) > limits.get(key, largest):
            raise ValueError(f"{whose} that cannot be: {key} is {number}")


def _numbers(key: str, value: Any) -> Iterator[tuple[str, float]]:
    """Every number in a value of JSON, with its key; of a list its LENGTH, too."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(name, part)
    elif isinstance(value, list | tuple):
        yield LENGTH, len(value)
        for part in value:
            yield from _numbers(key, part)
    elif isinstance(value, int | float):
        yield key, value


def content_hash(path: str | Path, kind: str) -> str:
    """A hash of a model and its weights alone, whatever else a file of it carries.

    What only says how it is run does not count, so that files of versions that did not know it stay
    the same model.
    """
    config, tensors = load_weights(path, kind)
    if not isinstance(config.get("model"), dict):
        raise ValueError(f"{path} is damaged: its header has no model")
    return _content(config, tensors)


def _content(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    model = {key: value for key, value in config["model"].items() if key not in HOW_IT_RUNS}
    return hash_of(json.dumps(model, sort_keys=True), tensors)


def weights_of(path: str | Path, name: str) -> Path:
    """`path` itself if it is a file, else `path/name.safetensors`.

    FileNotFoundError says how to get it.
    """
    path = Path(path)
    weights = path if path.is_file() else path / f"{name}.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"no {name} at {weights}: train it first (`maskgit train <config>`), or import a "
            "published one (`maskgit import`)"
        )
    return weights
