"""The trained pipelines that come with the package, by name; no torch is needed to find them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""Of a folder for each: what `maskgit share --precision fp16` wrote."""


def shipped_names() -> list[str]:
    """Such as `fashion`."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def shipped(name: str | Path) -> Path | None:
    """The folder of the pipeline of that name, none if none has it."""
    return FOLDER / name if str(name) in shipped_names() else None


def shipped_name(folder: Path) -> str | None:
    """The name of the pipeline of the package that lies in that folder, none if none does."""
    found = folder.resolve()
    return found.name if found.parent == FOLDER.resolve() else None
