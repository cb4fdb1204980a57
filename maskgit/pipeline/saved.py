"""A pipeline on disk: a folder <-> the parts of a Pipeline, and what identifies it.

folder/config.json (class names, sampler settings, the run's config)  presets/*.yaml
folder/model.safetensors  tokenizer.safetensors  critic.safetensors, if it has a token critic
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maskgit.config.presets import Preset, load_presets, save_preset
from maskgit.model.backbones import make_backbone, spec_of
from maskgit.model.wrapper import NonAutoregressiveWrapper
from vqgan.files import replacing
from vqgan.tokenizer import Tokenizer
from vqgan.weights import content_hash, load_weights, save_weights

FORMAT = "maskgit-pipeline-2"


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

    FileNotFoundError or ValueError says what to do if it is none of ours.
    """
    config = _read_config(folder / "config.json")
    weights, tensors = load_weights(folder / "model.safetensors", "maskgit")
    net, mask_id = make_backbone(weights["model"]), weights["model"]["codebook_size"]
    model = NonAutoregressiveWrapper(net, mask_id=mask_id, **weights["wrapper"])
    model.load_state_dict(tensors)
    if (folder / "critic.safetensors").is_file():
        critic, tensors = load_weights(folder / "critic.safetensors", "critic")
        model.token_critic = make_backbone(critic["model"])
        model.token_critic.load_state_dict(tensors)
    tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
    rest = {key: config[key] for key in ("class_names", "sampler", "guidance", "run")}
    return Parts(
        model, tokenizer, **rest, data=config.get("data") or {}, presets=load_presets(folder)
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no generator in {path.parent}: train one first (`maskgit train <config>`)"
        )
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path} is not a {FORMAT}: it was written by another program or version")
    return config


def write_parts(folder: Path, parts: Parts) -> Path:
    """Write a pipeline's files and presets, each whole or not at all; others stay."""
    model = parts.model
    parts.tokenizer.save(folder / "tokenizer.safetensors")
    own = {"self_cond": model.self_cond, "self_token_critic": model.self_critic is not None}
    weights = {"model": spec_of(model.net), "wrapper": own, "run": parts.run}
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("token_critic.")}
    save_weights(folder / "model.safetensors", state, "maskgit", weights)
    if model.token_critic is None:
        (folder / "critic.safetensors").unlink(missing_ok=True)
    else:
        shape = {"model": spec_of(model.token_critic), "run": parts.run}
        save_weights(
            folder / "critic.safetensors", model.token_critic.state_dict(), "critic", shape
        )
    rest = {
        name: getattr(parts, name) for name in ("class_names", "sampler", "guidance", "run", "data")
    }
    with replacing(folder / "config.json") as aside:
        aside.write_text(json.dumps({"format": FORMAT, **rest}, indent=1) + "\n")
    for name, preset in parts.presets.items():
        save_preset(folder, name, preset)
    return folder


def pipeline_folder(run: Path) -> Path:
    """Where the pipeline of a training run lies; the folder of a pipeline itself stays as it is."""
    return run / "pipeline" if (run / "pipeline").is_dir() else run


def pipeline_hashes(run: Path) -> dict[str, str]:
    """The hashes of a pipeline's model, tokenizer and token critic, where there is one."""
    kinds = {"model": "maskgit", "tokenizer": "tokenizer", "critic": "critic"}
    files = {name: pipeline_folder(run) / f"{name}.safetensors" for name in kinds}
    return {name: content_hash(path, kinds[name]) for name, path in files.items() if path.is_file()}
