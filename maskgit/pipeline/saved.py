"""A pipeline on disk: a folder <-> the parts of a Pipeline, and what identifies it.

folder/config.json (class names, sampler settings, the run's config)  presets/*.yaml
folder/model.safetensors  tokenizer.safetensors  critic.safetensors, if it has a token critic

An export comes whole or not at all: until all its files are in their places, those that are not
stand in folder/.export, and are read before their namesakes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from maskgit.config.presets import Preset, load_presets, save_preset
from maskgit.model.backbones import make_backbone, spec_of
from maskgit.model.wrapper import NonAutoregressiveWrapper
from vqgan.files import flush, remove, replacing, temporary
from vqgan.grids import GridTokenizer
from vqgan.registry import choose
from vqgan.tokenizers import load_tokenizer
from vqgan.weights import content_hash, load_module, recorded_hash, save_weights

FORMAT = "maskgit-pipeline-2"
KINDS = {"model": "maskgit", "tokenizer": "tokenizer", "critic": "critic"}
"""The files of weights, and the kind that each says it is."""
CONFIG, EXPORT = "config.json", ".export"
STORED: dict[str, torch.dtype | None] = {"fp32": None, "fp16": torch.float16}
"""How the numbers of weights may lie in a file; loaded, they are float32."""
TRIES = 10
"""How often a folder that changes while it is read is read again."""


class Parts(NamedTuple):
    """What a Pipeline is made of."""

    model: NonAutoregressiveWrapper
    tokenizer: GridTokenizer | None  # none of a generator alone
    class_names: Sequence[str]
    sampler: str | Mapping[str, Any]
    guidance: Mapping[str, Any]
    run: Mapping[str, Any]  # the config that it was trained with
    data: Mapping[str, Any]  # the images, as the data section of a config
    presets: Mapping[str, Preset]


def read_parts(folder: Path) -> Parts:
    """What `write_parts` wrote, all of one export, also while another is written.

    FileNotFoundError or ValueError says what to do if it is none of ours, or not whole.
    """
    for _ in range(TRIES):
        before = _state(folder)
        try:
            return _read_parts(folder)
        except (OSError, ValueError):
            if _state(folder) == before:
                raise
    return _read_parts(folder)


def read_hashed(folder: Path) -> tuple[Parts, dict[str, str]]:
    """As `read_parts`, with the hashes that `pipeline_hashes` gives, both of one export."""
    for _ in range(TRIES):
        before, found = _state(folder), (read_parts(folder), pipeline_hashes(folder))
        if _state(folder) == before:
            break
    return found


def _state(folder: Path) -> list[tuple[int, int] | None]:
    """Which files there are: it changes while an export comes to its place."""
    names = [CONFIG, *map(_file, KINDS)]
    return [_identity(place / name) for name in names for place in (folder / EXPORT, folder)]


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


def _file(name: str) -> str:
    return f"{name}.safetensors"


def _at(folder: Path, name: str) -> Path:
    """Where a file lies: what is left of an export on its way stands before what was there."""
    waiting = folder / EXPORT / name
    return waiting if waiting.is_file() else folder / name


def _files(folder: Path, config: Mapping[str, Any]) -> dict[str, Path]:
    """The weights that config.json binds; of version 0.1 all there are."""
    found = {name: _at(folder, _file(name)) for name in KINDS}
    bound = config.get("sha256")
    if bound is not None:
        return {name: path for name, path in found.items() if name == "model" or name in bound}
    return {k: path for k, path in found.items() if k != "critic" or path.is_file()}


def _read_parts(folder: Path) -> Parts:
    config = _read_config(_at(folder, CONFIG))
    files = _files(folder, config)
    model, weights = load_module(files["model"], "maskgit", _make_model)
    if "critic" in files:
        model.token_critic, _ = load_module(files["critic"], "critic", _make_critic)
    tokenizer = load_tokenizer(files["tokenizer"]) if "tokenizer" in files else None
    _check_bound(files, config)
    names = config["class_names"]
    number = weights["model"].get("num_classes", len(names))  # a net of one's own may not say
    if len(names) > number:
        raise ValueError(f"{folder} names {len(names)} classes, its model has {number}")
    rest = {key: config[key] for key in ("class_names", "sampler", "guidance", "run")}
    return Parts(
        model, tokenizer, **rest, data=config.get("data") or {}, presets=load_presets(folder)
    )


def _make_model(weights: Mapping[str, Any]) -> NonAutoregressiveWrapper:
    net, mask_id = make_backbone(weights["model"]), weights["model"]["codebook_size"]
    return NonAutoregressiveWrapper(net, mask_id=mask_id, **weights["wrapper"])


def _make_critic(weights: Mapping[str, Any]) -> Any:
    return make_backbone(weights["model"])


def check_header(path: Path, kind: str) -> None:
    """ValueError if no net that its tensors fit can be made of what a file says of itself."""
    makers: dict[str, Callable[..., Any]] = {"maskgit": _make_model, "critic": _make_critic}
    if kind in makers:
        load_module(path, kind, makers[kind])


def _check_bound(files: Mapping[str, Path], config: Mapping[str, Any]) -> None:
    """ValueError if a file of weights is not the one that config.json was written with."""
    bound = config.get("sha256") or {}  # none in version 0.1
    for name, path in files.items():
        if bound and recorded_hash(path, KINDS[name]) != bound.get(name):
            raise ValueError(
                f"{path} is not the one that {path.parent / CONFIG} was written with: files of "
                "two exports are mixed. Copy the folder again, or export anew by the same "
                "`maskgit train <config>`"
            )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no generator in {path.parent}: train one first (`maskgit train <config>`)"
        )
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path} is not a {FORMAT}: it was written by another program or version")
    if wrong := [key for key, fits in FIELDS.items() if not fits(config.get(key))]:
        raise ValueError(f"{path} is damaged: {wrong[0]} is {config.get(wrong[0])!r}")
    bound = config.get("sha256")
    if bound is not None and bound.get("config") != _hash(config):
        raise ValueError(
            f"{path} is not as it was written; settings of your own belong into "
            f"{path.parent / 'presets'} (`--preset`)"
        )
    return config


def _hash(config: Mapping[str, Any]) -> str:
    """Of all but the hashes."""
    text = json.dumps({k: v for k, v in config.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


FIELDS: dict[str, Callable[[Any], bool]] = {
    "class_names": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "sampler": lambda value: isinstance(value, str | dict),
    "guidance": lambda value: isinstance(value, dict),
    "run": lambda value: isinstance(value, dict),
    "data": lambda value: value is None or isinstance(value, dict),
    "sha256": lambda value: value is None or isinstance(value, dict),
}
"""What the values of a config.json are like."""


def write_parts(folder: Path, parts: Parts, precision: str = "fp32") -> Path:
    """Write a pipeline's files: all or none of them, whatever moment it is killed at; others stay.

    precision: of the numbers in the files, an entry of STORED.

    They are written aside, put beside the old ones by one renaming, and then into their places.
    Presets follow, each whole or not at all.
    """
    _settle(folder)
    aside = temporary(folder / EXPORT)
    remove(aside)
    try:
        _write(aside, parts, choose(STORED, precision, "precision of files"))
        flush(aside)
        os.replace(aside, folder / EXPORT)
    except BaseException:
        remove(aside)
        raise
    _settle(folder)
    gone = {"critic": parts.model.token_critic is None, "tokenizer": parts.tokenizer is None}
    for name in (name for name, is_gone in gone.items() if is_gone):
        (folder / _file(name)).unlink(missing_ok=True)  # an earlier export's, which nothing binds
    for name, preset in parts.presets.items():
        save_preset(folder, name, preset)
    return folder


def _write(folder: Path, parts: Parts, dtype: torch.dtype | None) -> None:
    """The weights, and a config.json that names their hashes: no file of another export passes."""
    model = parts.model
    own = {"self_cond": model.self_cond, "self_token_critic": model.self_critic is not None}
    weights = {"model": spec_of(model.net), "wrapper": own, "run": parts.run}
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("token_critic.")}
    bound = {"model": save_weights(folder / _file("model"), state, "maskgit", weights, dtype)}
    if parts.tokenizer is not None:
        bound["tokenizer"] = parts.tokenizer.save(folder / _file("tokenizer"), dtype=dtype)
    if model.token_critic is not None:
        shape = {"model": spec_of(model.token_critic), "run": parts.run}
        bound["critic"] = save_weights(
            folder / _file("critic"), model.token_critic.state_dict(), "critic", shape, dtype
        )
    rest = {
        name: getattr(parts, name) for name in ("class_names", "sampler", "guidance", "run", "data")
    }
    config = json.loads(json.dumps({"format": FORMAT, **rest}))
    config["sha256"] = {"config": _hash(config), **bound}
    with replacing(folder / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=1) + "\n")


def _settle(folder: Path) -> None:
    """Bring the files of an export to their places; also of one that was killed on its way."""
    waiting = folder / EXPORT
    if waiting.is_dir():
        for path in waiting.iterdir():
            os.replace(path, folder / path.name)
        flush(folder)
        waiting.rmdir()


def class_names_of(folder: Path) -> list[str]:
    """The class names of a pipeline, from its folder."""
    return list(_read_config(_at(folder, CONFIG))["class_names"])


def data_of(folder: Path) -> dict[str, Any]:
    """The images that a pipeline was trained on, as the data section of a config; {} if it does not
    say."""
    return dict(_read_config(_at(folder, CONFIG)).get("data") or {})


def run_of(folder: Path) -> dict[str, Any]:
    """The config that a pipeline was trained with; {} if it does not say."""
    return dict(_read_config(_at(folder, CONFIG))["run"])


def settings_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sampler with its name, and the guidance, that a pipeline is drawn with by default."""
    config = _read_config(_at(folder, CONFIG))
    sampler = config["sampler"]
    return ({"name": sampler} if isinstance(sampler, str) else sampler), config["guidance"]


def pipeline_folder(run: Path) -> Path:
    """Where the pipeline of a training run lies; the folder of a pipeline itself stays as it is."""
    return run / "pipeline" if (run / "pipeline").is_dir() else run


def pipeline_hashes(run: Path) -> dict[str, str]:
    """The hashes of a pipeline's model, tokenizer and token critic, where there is one."""
    folder = pipeline_folder(run)
    files = _files(folder, _read_config(_at(folder, CONFIG)))
    return {name: content_hash(path, KINDS[name]) for name, path in files.items()}
