"""The typed config of a run: frozen sections that refuse unknown keys and wrong values.

Every field has a default that works; a YAML file holds only what differs. An open choice is written
`{name: fsq, levels: [8, 6, 5]}`, its options being the keywords of the entry in its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Le
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from maskgit.config.choices import entry, keywords, member, names, table
from maskgit.config.marks import MAY_CHANGE
from maskgit.config.signatures import Choice, Section
from vqgan.registry import Count, Positive, Share, Size

ScheduleChoice = Annotated[
    Choice, names(table("maskgit.schedules", "SCHEDULES"), "schedule", ["t"])
]


Beta = Annotated[float, Field(ge=0, lt=1)]
"""How much of a moment is kept in each step."""
DEFAULTS: Any = Field(default={}, validate_default=True)


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("an interval goes from a smaller to a larger number")
    return interval


def _apart(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] >= interval[1]:
        raise ValueError("black is a smaller number than white")
    return interval


# where something lies may change: that it is the same is known by its hash
Place = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser()))]
"""A path, of which ~ is one's home."""


def _known_colour(name: str) -> str:
    from PIL import ImageColor  # a config is read in many commands that draw nothing

    try:
        ImageColor.getrgb(name)
    except ValueError as error:
        raise ValueError(f"{error}: a name such as grey, or '#336699' in quotes") from error
    return name


Colour = Annotated[str, AfterValidator(_known_colour)]
Balance = Literal["none", "sqrt", "uniform"]


class DataConfig(Section):
    """Images: where from, and how they are cut."""

    source: Annotated[
        Choice,
        BeforeValidator(lambda spec: table("maskgit.data.sources", "named")()(spec)),
        names(table("maskgit.data.sources", "SOURCES"), "data source", ["split"]),
    ] = "mnist5k"
    image_size: Annotated[Positive, Le(2**15)] = 28
    channels: Literal[1, 3, 4] = 1  # grey, RGB, RGBA
    crop: Literal["center", "random"] = "center"
    max_scale: Annotated[float, Field(ge=1)] = 1.25
    flip: bool = False
    # black and white in pictures of more than 8 bits; by default [0, 65535], and [0, 1] of floats
    range: Annotated[tuple[float, float], AfterValidator(_apart)] | None = None
    # lanczos by Pillow, bicubic by torch in a fifth of the time, nearest for pixel art
    resample: Literal["lanczos", "bicubic", "nearest"] = "lanczos"
    # crop: the shorter side fits, what stands over is cut; contain: all of it, on the background
    resize: Literal["crop", "contain"] = "crop"
    # what contain fills with, and transparent pixels lie on; of 4 channels, in networks' eyes alone
    background: Colour = "white"
    # how often a class comes in training: as it is there, by the root of that, or as any other
    balance: Balance = "none"
    workers: Annotated[Count, Le(1000), MAY_CHANGE] = 0


Tokenizer = Annotated[
    Any, keywords(table("vqgan.tokenizer", "Tokenizer"), ["image_size", "channels"])
]
"""vqgan.Tokenizer's own keywords; size and channels are the data's."""


class AdversarialConfig(Section):
    """The discriminator and when it joins."""

    discriminator: Annotated[
        Choice, names(table("vqgan.discriminator", "DISCRIMINATORS"), "discriminator", ["channels"])
    ] = "patchgan"
    loss: Annotated[str, member(table("vqgan.losses", "ADVERSARIAL"), "adversarial loss")] = "hinge"
    weight: Annotated[float, Field(ge=0)] = 0.8
    adaptive: bool = True
    start_step: Count = 10_000
    warmup_steps: Count = 0  # over which the weight grows from 0, after start_step
    lecam: Annotated[float, Field(ge=0)] = 0.0  # weight, .001 in the literature
    r1: Annotated[float, Field(ge=0)] = 0.0  # gamma of the gradient penalty gamma / 2 E |grad D|^2
    r1_every: Positive = 16  # steps; the penalty then counts that many times
    augment: bool = False  # DiffAugment, for small data
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4


class ReconstructionLoss(Section):
    """What decoded images are compared with their originals by."""

    pixel: Annotated[str, member(table("vqgan.losses", "PIXEL_LOSSES"), "pixel loss")] = "l1_l2"
    perceptual: Annotated[
        Choice | None, names(table("vqgan.perceptual", "PERCEPTUAL"), "perceptual loss")
    ] = None
    perceptual_weight: Annotated[float, Field(ge=0)] = 1.0


class TokenizerLoss(ReconstructionLoss):
    """What the tokenizer is trained on."""

    adversarial: AdversarialConfig | None = None


Backbone = Annotated[
    Any,
    entry(
        table("maskgit.model.backbones", "BACKBONES"),
        "backbone",
        table("maskgit.model.backbones", "SHAPE"),
    ),
]
"""An entry of BACKBONES with its own keywords; SHAPE comes from the code cache."""

Masking = Annotated[
    Any,
    keywords(
        table("maskgit.model.wrapper", "NonAutoregressiveWrapper"),
        ["net", "mask_id", "steps", "sampling_schedule", "can_mask_prev_unmasked", "token_critic"],
    ),
]
"""NonAutoregressiveWrapper's own keywords, of training."""


class GuidanceConfig(Section):
    """u + s (c - u), with s growing by a schedule; scale 1 is no guidance, and there is none
    outside the interval."""

    scale: Annotated[float, Field(ge=0)] = 2.0
    schedule: Annotated[
        Choice,
        names(
            table("maskgit.samplers.guidance", "GUIDANCE_SCHEDULES"),
            "guidance schedule",
            ["r", "scale"],
        ),
    ] = "linear"
    interval: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.0, 1.0)


class TrainConfig(Section):
    """The loop.

    batch_size is that of a whole optimiser step, over all processes and accumulated parts.
    """

    steps: Annotated[Positive, MAY_CHANGE] = 1000
    # in place of steps: as many as this machine does in the time, found out once
    minutes: Annotated[Annotated[float, Field(gt=0)] | None, MAY_CHANGE] = None
    batch_size: Size = 64
    accumulate: Size = 1
    learning_rate: Annotated[float, Field(gt=0), MAY_CHANGE] = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.96)
    weight_decay: Annotated[float, Field(ge=0)] = 0.03
    warmup_steps: Count = 100
    final_share: Share = 0.02
    clip_norm: Annotated[float, Field(gt=0), MAY_CHANGE] = 1.0
    ema_decay: Share = 0.999
    # the quicker on this machine; a run keeps what it was started with
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # of a generator's step; auto: long trainings on accelerators
    compile: Annotated[bool | Literal["auto"], MAY_CHANGE] = "auto"
    # each process holds a part of weights, averages and moments only (FSDP2): nets beyond a card
    shard: Annotated[bool, MAY_CHANGE] = False
    log_every: Annotated[Positive, MAY_CHANGE] = 10
    eval_every: Annotated[Positive, MAY_CHANGE] = 250
    preview_every: Annotated[Positive, MAY_CHANGE] = 250
    save_every: Annotated[Positive, MAY_CHANGE] = 250
    keep: Annotated[Positive, MAY_CHANGE] = 2
    max_eval_images: Annotated[Positive, MAY_CHANGE] = 10_000
    trackers: Annotated[tuple[str, ...], MAY_CHANGE] = ("tensorboard",)

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and {"steps", "minutes"} <= {
            k for k, v in values.items() if v is not None
        }:
            raise ValueError(
                "steps and minutes are both given: leave one out (minutes find the steps that "
                "they hold)"
            )
        return values

    @property
    def length(self) -> str:
        """In words."""
        return f"{self.steps} steps" if self.minutes is None else f"{self.minutes:g} minutes"

    @model_validator(mode="before")
    @classmethod
    def _words_of_0_1(cls, values: Any) -> Any:
        """`mixed_precision: no` is `precision: fp32` by now."""
        if not isinstance(values, Mapping) or "mixed_precision" not in values:
            return values
        if "precision" in values:
            raise ValueError("mixed_precision is the old word for precision: give this one alone")
        rest = {key: value for key, value in values.items() if key != "mixed_precision"}
        old = values["mixed_precision"]
        return {**rest, "precision": "fp32" if old is False or old == "no" else old}


def _unsharded(shard: bool) -> bool:
    if shard:
        raise ValueError(
            "for generators and critics only: tokenizers and classifiers fit a card, and each "
            "process needs all of a codebook"
        )
    return shard


class WholeTrainConfig(TrainConfig):
    """The loop of a module that each process holds all of."""

    shard: Annotated[bool, MAY_CHANGE, AfterValidator(_unsharded)] = False


class TokenizerConfig(Section):
    """`task: tokenizer`: images -> a tokenizer."""

    task: Literal["tokenizer"] = "tokenizer"
    run: Annotated[Place, MAY_CHANGE] = "runs/tokenizer"
    seed: Count = 0
    # a run, or its weights, that a new run starts from
    init_from: Annotated[Place | None, MAY_CHANGE] = None
    data: DataConfig = DataConfig()
    model: Tokenizer = DEFAULTS
    loss: TokenizerLoss = TokenizerLoss()
    train: WholeTrainConfig = WholeTrainConfig()


SamplerChoice = Annotated[
    Choice, names(table("maskgit.samplers", "SAMPLERS"), "sampler", ["predictor", "codes", "seeds"])
]


class MaskGITConfig(Section):
    """`task: maskgit`: cached codes and labels -> a generator."""

    task: Literal["maskgit"] = "maskgit"
    run: Annotated[Place, MAY_CHANGE] = "runs/maskgit"
    seed: Count = 0
    # a run, or its weights, that a new run starts from
    init_from: Annotated[Place | None, MAY_CHANGE] = None
    tokenizer: Annotated[Place, MAY_CHANGE] = "runs/tokenizer"
    codes: Annotated[Place, MAY_CHANGE] = "runs/codes"
    balance: Balance = "none"  # of the classes of the codes, as data.balance is of images
    model: Backbone = DEFAULTS
    critic: Backbone = None  # a token critic that is trained beside the generator
    loss: Masking = DEFAULTS
    sampler: Annotated[SamplerChoice, MAY_CHANGE] = "confidence"
    guidance: Annotated[GuidanceConfig, MAY_CHANGE] = GuidanceConfig()
    train: TrainConfig = TrainConfig()


class CriticLoss(Section):
    """What a token critic learns on: t by the schedule, codes drawn at the temperature."""

    schedule: ScheduleChoice = "cosine"
    target: Literal["changed", "hidden"] = "changed"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    condition_dropout: Share = 0.1


class CriticConfig(Section):
    """`task: critic`: a trained generator, frozen, and cached codes -> a token critic for it."""

    task: Literal["critic"] = "critic"
    run: Annotated[Place, MAY_CHANGE] = "runs/critic"
    seed: Count = 0
    # a run, or its weights, that a new run starts from
    init_from: Annotated[Place | None, MAY_CHANGE] = None
    generator: Annotated[Place, MAY_CHANGE] = "runs/maskgit"
    codes: Annotated[Place, MAY_CHANGE] = "runs/codes"
    balance: Balance = "none"  # of the classes of the codes, as data.balance is of images
    model: Backbone = DEFAULTS
    loss: CriticLoss = CriticLoss()
    sampler: Annotated[SamplerChoice, MAY_CHANGE] = "critic"
    guidance: Annotated[GuidanceConfig, MAY_CHANGE] = GuidanceConfig()
    train: TrainConfig = TrainConfig()


class DecoderLoss(ReconstructionLoss):
    """What a decoder is trained on: of each image a share of the codes, drawn evenly from 0 to
    `share`, is drawn anew by the generator, in so many rounds."""

    share: Share = 0.8
    rounds: Annotated[Positive, Le(2**16)] = 3


class DecoderConfig(Section):
    """`task: decoder`: a trained generator, frozen, and its images -> a decoder that is used to the
    codes it draws."""

    task: Literal["decoder"] = "decoder"
    run: Annotated[Place, MAY_CHANGE] = "runs/decoder"
    seed: Count = 0
    # a run, or its weights, that a new run starts from
    init_from: Annotated[Place | None, MAY_CHANGE] = None
    generator: Annotated[Place, MAY_CHANGE] = "runs/maskgit"
    balance: Balance = "none"  # of the classes of its images
    loss: DecoderLoss = DecoderLoss()
    train: WholeTrainConfig = WholeTrainConfig()


class ClassifierConfig(Section):
    """`task: classifier`: real images -> a judge of class agreement."""

    task: Literal["classifier"] = "classifier"
    run: Annotated[Place, MAY_CHANGE] = "runs/classifier"
    seed: Count = 0
    # a run, or its weights, that a new run starts from
    init_from: Annotated[Place | None, MAY_CHANGE] = None
    data: DataConfig = DataConfig()
    model: Annotated[
        Any, keywords(table("vqgan.classifier", "Classifier"), ["channels", "num_classes"])
    ] = DEFAULTS
    # images are moved by up to so many pixels
    shift: Count = 2
    train: WholeTrainConfig = WholeTrainConfig()


Config = TokenizerConfig | MaskGITConfig | CriticConfig | DecoderConfig | ClassifierConfig
