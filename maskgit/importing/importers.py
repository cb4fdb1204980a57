"""IMPORTERS: the projects whose published files are read."""

from __future__ import annotations

from maskgit.importing import halton, llamagen, titok
from maskgit.importing.system import System, Tensors

IMPORTERS: dict[str, System] = {
    "llamagen": llamagen.SYSTEM,
    "halton": halton.SYSTEM,
    "titok": titok.SYSTEM,
}


def looks_like(tensors: Tensors) -> list[str]:
    """The systems that tensors may be of, by their names."""
    return [name for name, system in IMPORTERS.items() if system.knows(tensors)]
