"""IMPORTERS: the projects whose published files are read."""

from __future__ import annotations

from maskgit.importing import (
    halton,
    ibq,
    llamagen,
    maskbit,
    maskgit_flax,
    maskgit_v1,
    maskgit_vqgan,
    open_magvit2,
    taming,
)
from maskgit.importing.system import System, Tensors

IMPORTERS: dict[str, System] = {
    "llamagen": llamagen.SYSTEM,
    "halton": halton.SYSTEM,
    "taming": taming.SYSTEM,
    "maskgit_vqgan": maskgit_vqgan.SYSTEM,
    "ibq": ibq.SYSTEM,
    "open_magvit2": open_magvit2.SYSTEM,
    "maskgit_flax": maskgit_flax.SYSTEM,
    "maskgit_v1": maskgit_v1.SYSTEM,
    "maskbit": maskbit.SYSTEM,
}


def may_be(name: str, tensors: Tensors) -> bool:
    """Whether tensors are of a system by their names, or of one that has the same."""
    names = name, IMPORTERS[name].like
    return any(IMPORTERS[each].knows(tensors) for each in names if each)


def looks_like(tensors: Tensors) -> list[str]:
    """The systems that tensors may be of, by their names."""
    return [name for name, system in IMPORTERS.items() if system.knows(tensors)]
