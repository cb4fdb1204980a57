"""`a.b=c` on plain values, as OmegaConf reads it: for configs and the command line's choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from maskgit.config.signatures import Choice
from vqgan.registry import choose

COMMAND_LINE = "on the command line"
"""Where an override is wrong."""


def overridden(config: Any, overrides: Sequence[str], where: str) -> dict[str, Any]:
    """Plain values with `a.b=c` set; a value that is a mapping replaces the old one whole."""
    try:
        for override in overrides:
            key, equals, _ = override.partition("=")
            if not equals or not key:
                raise ValueError(f"an override is written section.key=value, not {override!r}")
            refuse_interpolation(override, where)  # before OmegaConf would follow it
            parent = key.rpartition(".")[0]
            choice = OmegaConf.select(config, parent) if parent else None
            # `source: mnist5k`, then `source.root=...`: an option of that choice
            if isinstance(choice, str):
                OmegaConf.update(config, parent, {"name": choice}, force_add=True)
            value = OmegaConf.select(OmegaConf.from_dotlist([override]), key)
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        values: Any = OmegaConf.to_container(config, resolve=False)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where} is not a mapping of sections")
    return values


def refuse_interpolation(values: Any, where: str) -> None:
    """Nothing in a config reads the environment or another key."""
    if isinstance(values, str) and "${" in values:
        raise ValueError(f"{where}: {values!r}: interpolation is not allowed")
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            refuse_interpolation(value, where)


def parse_choice(text: str, kind: str) -> Choice:
    """A choice of the command line, as in a config: `fsq`, or `{name: fsq, levels: [8, 5]}`."""
    values = overridden(OmegaConf.create(), [f"{kind}={text}"], f"--{kind}")
    found: Choice = values[kind]
    return found


def parse_sections(words: Sequence[str], sections: Sequence[str], where: str) -> dict[str, Any]:
    """`sampler.eta=.1` and the like -> the values of each section.

    ValueError if a word names none of these sections, or no option of one.
    """
    values = overridden(OmegaConf.create(), words, where)
    for section, found in values.items():
        choose(dict.fromkeys(sections), section, f"section of {where}")
        if not isinstance(found, Mapping):
            raise ValueError(f"{where} is written {section}.option=value, not {section}={found}")
    return values
