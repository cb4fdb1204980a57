"""The card of an imported folder: what it holds, whence, under which licence, and how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskgit.importing.system import System
from maskgit.model.backbones import num_parameters
from vqgan.files import replacing


def write_card(folder: Path, kind: str, module: Any, system: System, origin: Any) -> Path:
    """README.md in the folder."""
    path = folder / "README.md"
    with replacing(path) as aside:
        aside.write_text("\n".join(_lines(folder, kind, module, system, origin)) + "\n")
    return path


def _lines(folder: Path, kind: str, module: Any, system: System, origin: Any) -> list[str]:
    what = "tokenizer" if kind == "tokenizer" else "generator"
    lines = [
        f"# {system.title}: {what}",
        "",
        f"Weights of [{system.title}]({system.url}), licence {system.licence}; not trained here.",
        "",
        f"- read from `{origin.file}`, sha256 `{origin.sha256}`",
        f"- {num_parameters(module) / 1e6:.1f} M parameters; {module.codebook_size} codes, "
        f"{module.grid[0]} x {module.grid[1]} for an image",
        "",
    ]
    commands = [f"maskgit info {folder.name}"]
    if kind == "tokenizer":
        commands += [
            f"maskgit tokenize {folder.name} --out codes --config imagenet256/vqgan",
            f"maskgit train imagenet256/maskgit tokenizer={folder.name} codes=codes",
        ]
    elif (folder / "tokenizer.safetensors").is_file():
        commands += [
            f"maskgit sample {folder.name} --labels 0-3 --out grid.png",
        ]
    else:
        lines += [
            "Its logits can be asked (`Pipeline.logits`); images need its tokenizer:",
            "",
        ]
        commands = [
            f"maskgit import {origin.tokenizer} --out tokenizer",
            f"maskgit import {origin.system} {origin.file} --tokenizer tokenizer --out whole",
        ]
    return [*lines, "```bash", *commands, "```"]
