"""Presets: named settings of sampler and guidance beside a checkpoint, one YAML file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from maskgit.config.loading import read_yaml, save, validated
from maskgit.config.overrides import refuse_interpolation
from maskgit.config.sections import GuidanceConfig, SamplerChoice, Section
from vqgan.registry import choose


class Preset(Section):
    """What to sample with, and how that was found. guidance: the run's own, if none is given.
    measured: JSON values, such as the metric, the count and the hashes of the weights."""

    sampler: SamplerChoice = "confidence"
    guidance: GuidanceConfig | None = None
    measured: dict[str, Any] = Field(default_factory=dict)


def preset_path(pipeline: Path, name: str) -> Path:
    """The file of a preset in a pipeline's folder."""
    return pipeline / "presets" / f"{name}.yaml"


def load_presets(pipeline: Path) -> dict[str, Preset]:
    """All presets in a pipeline's folder by name; ValueError names what is wrong in which file."""
    found = {}
    for path in sorted((pipeline / "presets").glob("[!.]*.yaml")):
        values = read_yaml(path)
        refuse_interpolation(values, str(path))
        found[path.stem] = validated(Preset, values, str(path))
    return found


def save_preset(pipeline: Path, name: str, preset: Preset) -> Path:
    """Write a preset, whole or not at all."""
    path = preset_path(pipeline, name)
    save(preset, path)
    return path


def choose_preset(presets: dict[str, Preset], name: str) -> Preset:
    """The preset of that name; ValueError names those that there are."""
    if not presets:
        raise ValueError(
            f"no preset {name!r}: this model has none yet (`maskgit tune RUN` makes them)"
        )
    return choose(presets, name, "preset")
