"""The typed config of a run: YAML plus `a.b=c` overrides -> a frozen object; unknown keys and wrong values are refused.

Every field has a default that works; a YAML file holds only what differs. An open choice is written
`{name: fsq, levels: [8, 6, 5]}`, its options being the keywords of the entry in its table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from yaml import YAMLError

from maskgit.choices import entry, keywords, member, names, table
from maskgit.marks import MAY_CHANGE
from maskgit.overrides import overridden, refuse_interpolation
from maskgit.signatures import Choice, Section, said
from vqgan.files import replacing
from vqgan.registry import Count, Positive, Share, choose, suggest

ScheduleChoice = Annotated[Choice, names(table("maskgit.schedules", "SCHEDULES"), "schedule", ["t"])]


DEFAULTS: Any = Field(default={}, validate_default=True)


class DataConfig(Section):
    """Images: where from, and how they are cut."""

    source: Annotated[Choice, names(table("maskgit.sources", "SOURCES"), "data source", ["split"])] = "mnist5k"
    image_size: Positive = 28
    channels: Literal[1, 3] = 1
    crop: Literal["center", "random"] = "center"
    max_scale: Annotated[float, Field(ge=1)] = 1.25
    flip: bool = False
    workers: Annotated[Count, MAY_CHANGE] = 0


Tokenizer = Annotated[Any, keywords(table("vqgan.tokenizer", "Tokenizer"), ["image_size", "channels"])]
"""vqgan.Tokenizer's own keywords; size and channels are the data's."""


class AdversarialConfig(Section):
    """The discriminator and when it joins."""

    discriminator: Annotated[
        Choice, names(table("vqgan.discriminator", "DISCRIMINATORS"), "discriminator", ["channels"])
    ] = "patchgan"
    loss: Annotated[str, member(table("vqgan.losses", "ADVERSARIAL"), "adversarial loss")] = "hinge"
    weight: float = 0.8
    adaptive: bool = True
    start_step: Count = 10_000
    warmup_steps: Count = 0  # over which the weight grows from 0, after start_step
    lecam: Annotated[float, Field(ge=0)] = 0.0  # weight, .001 in the literature
    r1: Annotated[float, Field(ge=0)] = 0.0  # gamma of the gradient penalty gamma / 2 E |grad D|^2
    r1_every: Positive = 16  # steps; the penalty then counts that many times
    augment: bool = False  # DiffAugment, for small data
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4


class TokenizerLoss(Section):
    """What the tokenizer is trained on."""

    pixel: Annotated[str, member(table("vqgan.losses", "PIXEL_LOSSES"), "pixel loss")] = "l1_l2"
    perceptual: Annotated[Choice | None, names(table("vqgan.perceptual", "PERCEPTUAL"), "perceptual loss")] = None
    perceptual_weight: Annotated[float, Field(ge=0)] = 1.0
    adversarial: AdversarialConfig | None = None


Backbone = Annotated[
    Any, entry(table("maskgit.backbones", "BACKBONES"), "backbone", table("maskgit.backbones", "SHAPE"))
]
"""An entry of BACKBONES with its own keywords; SHAPE comes from the code cache."""

Masking = Annotated[
    Any,
    keywords(
        table("maskgit.wrapper", "NonAutoregressiveWrapper"),
        ["net", "mask_id", "steps", "sampling_schedule", "can_mask_prev_unmasked", "token_critic"],
    ),
]
"""NonAutoregressiveWrapper's own keywords, of training."""


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("an interval goes from a smaller to a larger number")
    return interval


class GuidanceConfig(Section):
    """u + s (c - u), with s growing by a schedule; scale 1 is no guidance, and there is none outside the interval."""

    scale: Annotated[float, Field(ge=0)] = 2.0
    schedule: Annotated[
        Choice, names(table("maskgit.guidance", "GUIDANCE_SCHEDULES"), "guidance schedule", ["r", "scale"])
    ] = "linear"
    interval: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.0, 1.0)


class TrainConfig(Section):
    """The loop. batch_size is that of a whole optimiser step, over all processes and accumulated parts."""

    steps: Annotated[Positive, MAY_CHANGE] = 1000
    batch_size: Positive = 64
    accumulate: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.96)
    weight_decay: Annotated[float, Field(ge=0)] = 0.03
    warmup_steps: Count = 100
    final_share: Share = 0.02
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Share = 0.999
    mixed_precision: Annotated[Literal["auto", "no", "bf16"], BeforeValidator(lambda v: "no" if v is False else v)] = (
        "auto"  # the quicker on this machine; a run keeps what it was started with
    )
    log_every: Annotated[Positive, MAY_CHANGE] = 10
    eval_every: Annotated[Positive, MAY_CHANGE] = 250
    preview_every: Annotated[Positive, MAY_CHANGE] = 250
    save_every: Annotated[Positive, MAY_CHANGE] = 250
    keep: Annotated[Positive, MAY_CHANGE] = 2
    max_eval_images: Annotated[Positive, MAY_CHANGE] = 10_000
    trackers: Annotated[tuple[str, ...], MAY_CHANGE] = ("tensorboard",)


class TokenizerConfig(Section):
    """`task: tokenizer`: images -> a tokenizer."""

    task: Literal["tokenizer"] = "tokenizer"
    run: Annotated[str, MAY_CHANGE] = "runs/tokenizer"
    seed: Count = 0
    data: DataConfig = DataConfig()
    model: Tokenizer = DEFAULTS
    loss: TokenizerLoss = TokenizerLoss()
    train: TrainConfig = TrainConfig()


SamplerChoice = Annotated[
    Choice, names(table("maskgit.samplers", "SAMPLERS"), "sampler", ["predictor", "codes", "seeds"])
]


class MaskGITConfig(Section):
    """`task: maskgit`: cached codes and labels -> a generator."""

    task: Literal["maskgit"] = "maskgit"
    run: Annotated[str, MAY_CHANGE] = "runs/maskgit"
    seed: Count = 0
    tokenizer: str = "runs/tokenizer"
    codes: str = "runs/codes"
    model: Backbone = DEFAULTS
    critic: Backbone = None  # a token critic that is trained beside the generator
    loss: Masking = DEFAULTS
    sampler: Annotated[SamplerChoice, MAY_CHANGE] = "confidence"
    guidance: Annotated[GuidanceConfig, MAY_CHANGE] = GuidanceConfig()
    train: TrainConfig = TrainConfig()


class CriticLoss(Section):
    """What a token critic learns, and on which grids: t by the schedule, codes drawn at the temperature."""

    schedule: ScheduleChoice = "cosine"
    target: Literal["changed", "hidden"] = "changed"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    condition_dropout: Share = 0.1


class CriticConfig(Section):
    """`task: critic`: a trained generator, which is frozen, and cached codes -> a token critic for it."""

    task: Literal["critic"] = "critic"
    run: Annotated[str, MAY_CHANGE] = "runs/critic"
    seed: Count = 0
    generator: str = "runs/maskgit"
    codes: str = "runs/codes"
    model: Backbone = DEFAULTS
    loss: CriticLoss = CriticLoss()
    sampler: Annotated[SamplerChoice, MAY_CHANGE] = "critic"
    guidance: Annotated[GuidanceConfig, MAY_CHANGE] = GuidanceConfig()
    train: TrainConfig = TrainConfig()


class ClassifierConfig(Section):
    """`task: classifier`: real images -> a judge of class agreement."""

    task: Literal["classifier"] = "classifier"
    run: Annotated[str, MAY_CHANGE] = "runs/classifier"
    seed: Count = 0
    data: DataConfig = DataConfig()
    model: Annotated[Any, keywords(table("vqgan.classifier", "Classifier"), ["channels", "num_classes"])] = DEFAULTS
    train: TrainConfig = TrainConfig()


Config = TokenizerConfig | MaskGITConfig | CriticConfig | ClassifierConfig
CONFIGS: dict[str, type[Section]] = {
    "tokenizer": TokenizerConfig,
    "maskgit": MaskGITConfig,
    "critic": CriticConfig,
    "classifier": ClassifierConfig,
}
Part = TypeVar("Part", bound=Section)


def _config_folders() -> list[Path]:
    """Where configs lie: beside the package in a checkout, inside it in an installed wheel."""
    here = Path(__file__).parent
    return [folder for folder in (here / "configs", here.parent / "configs") if folder.is_dir()]


def known_configs() -> list[str]:
    """The names of the configs that come with the package, such as `mnist/vqgan`."""
    names = {p.relative_to(f).with_suffix("").as_posix() for f in _config_folders() for p in f.glob("*/*.yaml")}
    return sorted(names)


def find_config(name: str | Path) -> Path:
    """A YAML file, or the name of a config that comes with the package."""
    for path in (Path(name), *(folder / f"{name}.yaml" for folder in _config_folders())):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no config {name}{suggest(str(name), known_configs())}")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a YAML file with `a.b=c` overrides. ValueError names a wrong key, the place and the right ones."""
    path = find_config(path)
    return parse(read_yaml(path, overrides), str(path))


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a YAML file with `a.b=c` overrides; ValueError if it is none."""
    try:
        config = OmegaConf.load(path)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    return overridden(config, overrides, str(path))


RENAMED = {"loss": {"label_dropout": "condition_dropout"}}
"""section -> keys of configs of version 0.1, and what they are called now."""


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under the names of today."""
    found = dict(values)
    for section, names_now in RENAMED.items():
        if isinstance(found.get(section), Mapping):
            found[section] = {names_now.get(key, key): value for key, value in found[section].items()}
    return found


def parse(values: Mapping[str, Any], where: str) -> Config:
    """A plain mapping -> the config of its `task`."""
    refuse_interpolation(values, where)
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


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> {"a.b": value}; lists and none become text, as trackers and comparisons want them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if value is None or isinstance(value, list | tuple) else value
    return flat


def override_section(schema: type[Any], section: BaseModel, name: str, overrides: Sequence[str]) -> Any:
    """A section with `name.key=value` overrides; ValueError as in `load`."""
    values = OmegaConf.create({name: section.model_dump(mode="json")})
    return validated(schema, overridden(values, overrides, "overrides")[name], name)
