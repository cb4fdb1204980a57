"""A saved pipeline: where it lies, and what it is made of."""

from __future__ import annotations

from pathlib import Path

from vqgan.weights import content_hash


def pipeline_folder(run: Path) -> Path:
    """Where the pipeline of a training run lies; the folder of a pipeline itself stays as it is."""
    return run / "pipeline" if (run / "pipeline").is_dir() else run


def pipeline_hashes(run: Path) -> dict[str, str]:
    """What a pipeline is made of: the hashes of its model, its tokenizer and its token critic, where there is one."""
    kinds = {"model": "maskgit", "tokenizer": "tokenizer", "critic": "critic"}
    files = {name: pipeline_folder(run) / f"{name}.safetensors" for name in kinds}
    return {name: content_hash(path, kinds[name]) for name, path in files.items() if path.is_file()}
