"""IMPORTERS: the projects whose published files are read."""

from __future__ import annotations

from maskgit.importing import halton, llamagen, maskbit, maskgit_flax, maskgit_v1
from maskgit.importing.system import System, Tensors

IMPORTERS: dict[str, System] = {
    "llamagen": llamagen.SYSTEM,
    "halton": halton.SYSTEM,
    "maskgit_v1": maskgit_v1.SYSTEM,
    "maskgit_flax": maskgit_flax.SYSTEM,
    "maskbit": maskbit.SYSTEM,
}


def looks_like(tensors: Tensors) -> list[str]:
    """The systems that tensors may be of, by their names."""
    return [name for name, system in IMPORTERS.items() if system.knows(tensors)]
