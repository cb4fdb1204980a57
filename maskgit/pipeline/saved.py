"""A pipeline on disk: a folder <-> the parts of a Pipeline, and what identifies it.

folder/config.json (class names, sampler settings, the run's config)  presets/*.yaml
folder/model.safetensors  tokenizer.safetensors  critic.safetensors, if it has a token critic
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from maskgit.config.presets import Preset, load_presets, save_preset
from maskgit.model.backbones import make_backbone, spec_of
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.processes import in_use
from vqgan.files import replacing
from vqgan.tokenizer import Tokenizer
from vqgan.weights import content_hash, load_module, recorded_hash, save_weights

FORMAT = "maskgit-pipeline-2"
KINDS = {"model": "maskgit", "tokenizer": "tokenizer", "critic": "critic"}
"""The files of weights, and the kind that each says it is."""
TRIES = 5
"""Seconds that an export which is under way is waited for."""


class Parts(NamedTuple):
    """What a Pipeline is made of."""

    model: NonAutoregressiveWrapper
    tokenizer: Tokenizer
    class_names: Sequence[str]
    sampler: str | Mapping[str, Any]
    guidance: Mapping[str, Any]
    run: Mapping[str, Any]  # the config that it was trained with
    data: Mapping[str, Any]  # the images, as the data section of a config
    presets: Mapping[str, Preset]


def read_parts(folder: Path) -> Parts:
    """What `write_parts` wrote.

    FileNotFoundError or ValueError says what to do if it is none of ours, or not whole. While a
    training exports to the folder, files of two exports may lie beside each other for a moment:
    that is waited for.
    """
    for _ in range(TRIES):
        with suppress(_MixedError):
            return _read_parts(folder)
        if not in_use(folder.parent):
            break
        time.sleep(1)
    return _read_parts(folder)


def _read_parts(folder: Path) -> Parts:
    config = _read_config(folder / "config.json")
    model, weights = load_module(folder / "model.safetensors", "maskgit", _make_model)
    if (folder / "critic.safetensors").is_file():
        model.token_critic, _ = load_module(
            folder / "critic.safetensors", "critic", lambda found: make_backbone(found["model"])
        )
    tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
    _check_bound(folder, config)
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


def _check_bound(folder: Path, config: Mapping[str, Any]) -> None:
    """ValueError if a file of weights is not the one that config.json was written with."""
    bound = config.get("sha256")
    if bound is None:  # of version 0.1
        return
    for name, kind in KINDS.items():
        path = folder / f"{name}.safetensors"
        found = recorded_hash(path, kind) if path.is_file() else None
        if found != bound.get(name):
            raise _MixedError(
                f"{path} is not the one that {folder / 'config.json'} was written with: files of "
                "two exports are mixed. Copy the folder again, or export anew by the same "
                "`maskgit train <config>`"
            )


class _MixedError(ValueError):
    """Files of two exports."""


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


def write_parts(folder: Path, parts: Parts) -> Path:
    """Write a pipeline's files and presets, each whole or not at all; others stay.

    config.json comes last and names the hashes of the others: no file of another export passes.
    """
    model = parts.model
    own = {"self_cond": model.self_cond, "self_token_critic": model.self_critic is not None}
    weights = {"model": spec_of(model.net), "wrapper": own, "run": parts.run}
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("token_critic.")}
    bound = {
        "tokenizer": parts.tokenizer.save(folder / "tokenizer.safetensors"),
        "model": save_weights(folder / "model.safetensors", state, "maskgit", weights),
    }
    if model.token_critic is None:
        (folder / "critic.safetensors").unlink(missing_ok=True)
    else:
        shape = {"model": spec_of(model.token_critic), "run": parts.run}
        bound["critic"] = save_weights(
            folder / "critic.safetensors", model.token_critic.state_dict(), "critic", shape
        )
    rest = {
        name: getattr(parts, name) for name in ("class_names", "sampler", "guidance", "run", "data")
    }
    config = json.loads(json.dumps({"format": FORMAT, **rest}))
    config["sha256"] = {"config": _hash(config), **bound}
    with replacing(folder / "config.json") as aside:
        aside.write_text(json.dumps(config, indent=1) + "\n")
    for name, preset in parts.presets.items():
        save_preset(folder, name, preset)
    return folder


def class_names_of(folder: Path) -> list[str]:
    """The class names of a pipeline, from its folder."""
    return list(_read_config(folder / "config.json")["class_names"])


def pipeline_folder(run: Path) -> Path:
    """Where the pipeline of a training run lies; the folder of a pipeline itself stays as it is."""
    return run / "pipeline" if (run / "pipeline").is_dir() else run


def pipeline_hashes(run: Path) -> dict[str, str]:
    """The hashes of a pipeline's model, tokenizer and token critic, where there is one."""
    files = {name: pipeline_folder(run) / f"{name}.safetensors" for name in KINDS}
    return {name: content_hash(path, KINDS[name]) for name, path in files.items() if path.is_file()}
