"""What can be asked of `maskgit evaluate`: of a generator, of any samples, or of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskgit.pipeline.asked import at_least_one, check_seed


@dataclass(frozen=True)
class Evaluation:
    """What to measure: either `run`, a trained generator, or `samples`, a folder or an .npz file.

    reference: a config with a data section, a folder or an .npz file; by default what the run was
    trained on. features: entries of FEATURES with commas between, by default the classifier that
    lies beside the run, else inception; weights: the first one's. judge: a classifier for class
    agreement, by default the same one. metrics: entries of METRICS, none for all that apply but
    slow ones. count, seed and options (of the sampler) say what a run draws; given samples are
    measured all. rFID and bits per code are of the validation split, whatever `split`, the
    reference, is.
    """

    run: Path | None = None
    samples: Path | None = None
    reference: str | None = None
    split: str = "train"
    count: int | None = None  # 10,000
    seed: int | None = None  # 0
    metrics: Sequence[str] = ()
    features: str | None = None
    weights: Path | None = None
    judge: Path | None = None
    precision: str = "fp32"  # of the generator's weights
    batch_size: int | None = None  # maskgit.machine.usual_batch
    options: dict[str, Any] = field(default_factory=dict)
    pictures: bool = True  # draw samples.png and neighbours.png

    def __post_init__(self) -> None:
        at_least_one(count=self.count, batch_size=self.batch_size)
        check_seed(self.seed)


@dataclass(frozen=True)
class TokenizerEvaluation:
    """What to measure of a tokenizer: its run, or the file of its weights.

    reference: a config with a data section, whose validation split it is, a folder or an .npz file;
    by default what it was trained on. count: held-out images, all by default. metrics: names of
    TOKENIZER_METRICS, none for all that apply. features: entries of FEATURES with commas between,
    by default the classifier that lies beside the run; without one, rFID is left out.
    """

    run: Path
    reference: str | None = None
    count: int | None = None
    metrics: Sequence[str] = ()
    features: str | None = None
    weights: Path | None = None
    batch_size: int | None = None  # maskgit.machine.usual_batch
    pictures: bool = True  # draw reconstructions.png and codes.png

    def __post_init__(self) -> None:
        at_least_one(count=self.count, batch_size=self.batch_size)


def is_tokenizer(run: Path) -> bool:
    """Whether a folder is the run of a tokenizer, or a file its weights, and no generator."""
    trained = (run / "tokenizer.safetensors").is_file() and not (run / "config.json").is_file()
    return run.suffix == ".safetensors" or trained


def tokenizer_request(asked: Evaluation) -> TokenizerEvaluation:
    """What was asked of a run that is a tokenizer; ValueError if a generator was thought of."""
    assert asked.run is not None
    if asked.options or asked.samples or asked.seed is not None:
        drawing = "it draws nothing, so no sampler or seed applies"
        raise ValueError(f"{asked.run} is a tokenizer: {drawing}")
    others = {"--judge": asked.judge, "--split": asked.split, "--precision": asked.precision}
    defaults = Evaluation()
    if given := [name for name, value in others.items() if value != getattr(defaults, name[2:])]:
        raise ValueError(
            f"{asked.run} is a tokenizer: {', '.join(given)} does not apply, it is measured on its "
            "validation images in fp32"
        )
    return TokenizerEvaluation(
        run=asked.run,
        reference=asked.reference,
        count=asked.count,
        metrics=asked.metrics,
        features=asked.features,
        weights=asked.weights,
        batch_size=asked.batch_size,
        pictures=asked.pictures,
    )


def choose_metrics(
    asked: Sequence[str], known: Iterable[str], cannot: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """What to measure, and why some that nobody asked for are left out.

    known: all names, in the order of the table. cannot: the names of those that cannot be measured,
    each with the reason, which is a ValueError where one of them was asked for.
    """
    for name in asked:
        if name in cannot:
            raise ValueError(f"{name}: {cannot[name]}")
    if asked:
        return list(dict.fromkeys(asked)), {}
    return [name for name in known if name not in cannot], dict(cannot)
