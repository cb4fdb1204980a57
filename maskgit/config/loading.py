"""A YAML file or a named config of the package, with `a.b=c` overrides <-> a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import Node, SafeLoader, YAMLError, compose

from maskgit.config.overrides import COMMAND_LINE, overridden, refuse_interpolation
from maskgit.config.sections import (
    ClassifierConfig,
    Config,
    CriticConfig,
    DecoderConfig,
    MaskGITConfig,
    TokenizerConfig,
)
from maskgit.config.signatures import Section, said
from vqgan.files import replacing
from vqgan.registry import choose, suggest

CONFIGS: dict[str, type[Section]] = {
    "tokenizer": TokenizerConfig,
    "maskgit": MaskGITConfig,
    "critic": CriticConfig,
    "decoder": DecoderConfig,
    "classifier": ClassifierConfig,
}


Part = TypeVar("Part", bound=Section)


def _config_folders() -> list[Path]:
    """Where configs lie: beside the package in a checkout, inside it in an installed wheel."""
    here = Path(__file__).parents[1]  # the package
    return [folder for folder in (here / "configs", here.parent / "configs") if folder.is_dir()]


def known_configs() -> list[str]:
    """The names of the configs that come with the package, such as `mnist/vqgan`."""
    names = {
        p.relative_to(f).with_suffix("").as_posix()
        for f in _config_folders()
        for p in f.glob("*/*.yaml")
    }
    return sorted(names)


def find_config(name: str | Path) -> Path:
    """A YAML file, or the name of a config that comes with the package."""
    for path in (Path(name), *(folder / f"{name}.yaml" for folder in _config_folders())):
        if path.is_file():
            return path
    if (path := Path(name)).exists():
        kind = "folder" if path.is_dir() else "device, pipe or socket"
        raise ValueError(f"{path} is a {kind}: a config is a YAML file")
    raise FileNotFoundError(f"no config {name}{suggest(str(name), known_configs())}")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a YAML file with `a.b=c` overrides.

    ValueError names a wrong key, the place and the right ones; the place is the command line where
    the file alone is right.
    """
    path = find_config(path)
    values = read_yaml(path, overrides)
    try:
        return parse(values, str(path))
    except ValueError:
        if not overrides or not _is_right(path):
            raise
    return parse(values, COMMAND_LINE)


def _is_right(path: Path) -> bool:
    """Whether a file is a config without any overrides."""
    try:
        parse(read_yaml(path), str(path))
    except ValueError:
        return False
    return True


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a YAML file with `a.b=c` overrides; ValueError if it is none."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is no file of at most {MOST_BYTES} bytes: no config")
    try:
        with open(path, encoding="utf-8") as file:
            refuse_bombs(compose(file, SafeLoader))
        config = OmegaConf.load(path)
    except (OmegaConfBaseException, YAMLError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    if not OmegaConf.is_dict(config):
        raise ValueError(f"{path} is not a mapping of sections")
    values = overridden(config, overrides, COMMAND_LINE if overrides else str(path))
    return with_one_length(values, overrides)


LENGTHS = {"train.steps": "minutes", "train.minutes": "steps"}
"""What an override sets, and what it takes the place of in the file."""
NOTHING = ("", "null", "~")
"""Values that set nothing."""


def with_one_length(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Of a file's `train.steps` and `train.minutes`, none that an override takes the place of."""
    given = {
        key for key, _, value in (word.partition("=") for word in overrides) if value not in NOTHING
    }
    replaced = {other for key, other in LENGTHS.items() if key in given}
    train = values.get("train")
    if not isinstance(train, Mapping) or len(replaced) != 1:
        return values
    return {**values, "train": {k: v for k, v in train.items() if k not in replaced}}


MOST_BYTES, MOST_VALUES = 2**20, 20_000
"""Of a config. A few lines that name each other can stand for more values than memory holds."""


def refuse_bombs(node: Node | None) -> None:
    """ValueError if a YAML document, its aliases written out, holds too many values, or itself."""
    sizes: dict[int, int] = {}

    def size(part: Any) -> int:
        if isinstance(part, tuple):
            return sum(map(size, part))
        if not isinstance(part, Node):
            return 0
        if id(part) not in sizes:
            sizes[id(part)] = MOST_VALUES + 1  # until it is known: an alias inside itself
            parts = part.value if isinstance(part.value, list) else ()
            sizes[id(part)] = 1 + sum(map(size, parts))
        return sizes[id(part)]

    if size(node) > MOST_VALUES:
        raise ValueError("its aliases stand for more values than a config can have")


RENAMED = {"loss": {"label_dropout": "condition_dropout"}}
"""section -> keys of configs of version 0.1, and what they are called now."""


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under the names of today."""
    found = dict(values)
    for section, names_now in RENAMED.items():
        if isinstance(found.get(section), Mapping):
            found[section] = {
                names_now.get(key, key): value for key, value in found[section].items()
            }
    return found


def parse(values: Mapping[str, Any], where: str) -> Config:
    """A plain mapping -> the config of its `task`."""
    refuse_interpolation(values, where)
    if not values:
        raise ValueError(f"{where} is empty: a config says at least its task, `task: tokenizer`")
    values = renamed(values)
    return validated(choose(CONFIGS, str(values.get("task", "")), "task"), values, where)  # type: ignore[return-value]


def validated(schema: type[Part], values: Mapping[str, Any], where: str) -> Part:
    """A plain mapping -> a section; ValueError names the first wrong key, and the right ones."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {said(error)}") from error


def to_dict(config: Section) -> dict[str, Any]:
    """Plain JSON values of every field, the resolved config."""
    return config.model_dump(mode="json")


def save(config: Section, path: Path) -> None:
    """Write every field as YAML."""
    with replacing(path) as aside:
        OmegaConf.save(OmegaConf.create(to_dict(config)), aside)


def write_yaml(values: Mapping[str, Any], path: Path, head: str = "") -> None:
    """Write plain values as YAML, below some lines of comment."""
    with replacing(path) as aside:
        aside.write_text(head + OmegaConf.to_yaml(OmegaConf.create(dict(values))))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> {"a.b": value}, as trackers want them: lists and none become text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                str(value) if value is None or isinstance(value, list | tuple) else value
            )
    return flat


def override_section(
    schema: type[Any], section: BaseModel, name: str, overrides: Sequence[str]
) -> Any:
    """A section with `name.key=value` overrides; ValueError as in `load`."""
    values = OmegaConf.create({name: section.model_dump(mode="json")})
    found = overridden(values, overrides, COMMAND_LINE)
    if others := sorted(found.keys() - {name}):
        meant = f"{name}.{others[0]}" if others[0] in schema.model_fields else f"{name}.key=value"
        raise ValueError(f"unknown key {others[0]}: what can be set here is written {meant}")
    return validated(schema, found[name], f"{COMMAND_LINE}: {name}")
