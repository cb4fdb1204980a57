"""What an evaluation will measure: all refusals, before any image is drawn or looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskgit.config.loading import find_config, load
from maskgit.config.sections import DataConfig
from maskgit.data.sources import load_source
from maskgit.evaluation.features import ClassifierFeatures, FeatureNetwork
from maskgit.evaluation.image_sets import ImageSet, from_files, from_pipeline, from_source
from maskgit.evaluation.instruments import feature_names, find_judge, find_network
from maskgit.evaluation.metrics import METRICS, check_libraries
from maskgit.evaluation.request import Evaluation, choose_metrics
from maskgit.machine import usual_batch
from maskgit.pipeline.drawing import load_pipeline, warn_of_preset
from maskgit.pipeline.pipeline import Pipeline
from vqgan.registry import choose, listed


@dataclass(frozen=True)
class Plan:
    """What will be measured, of which images, and with what."""

    request: Evaluation
    pipeline: Pipeline | None  # what draws the samples, unless they are given
    data: DataConfig | None  # where the reference is of a data set
    real: ImageSet  # the reference
    fake: ImageSet  # the samples
    validation: ImageSet | None  # none without a run or its data
    class_names: Sequence[str]
    judge: ClassifierFeatures | None
    network: FeatureNetwork | None  # none if no metric looks at features
    metrics: Sequence[str]  # entries of METRICS
    left_out: dict[str, str]  # those that nobody asked for -> the reason
    batch_size: int

    @property
    def kinds(self) -> Sequence[str]:
        """What the numbers in each feature network are called by; those in the first by nothing."""
        return ["", *(f"_{name}" for name in feature_names(self.request)[1:])]

    @property
    def wanted(self) -> set[str]:
        """The names of the sets that the metrics compare."""
        return {side for name in self.metrics for side in METRICS[name].sets}


def plan(request: Evaluation) -> Plan:
    """All that is needed, found and loaded, but no image drawn.

    ValueError or FileNotFoundError if something asked for cannot be measured.
    """
    _check(request)
    pipeline = load_pipeline(request.run, request.precision) if request.run else None
    if pipeline is not None and request.run is not None:
        warn_of_preset(pipeline, request.run, request.options.get("preset"))
    data, real = _reference(request, pipeline)
    class_names = _class_names(request, pipeline, data)
    fake = _samples(request, pipeline, real, class_names)
    judge = _judge(request, class_names)
    validation = from_source(data, "validation") if data and pipeline else None
    cannot = _too_few(real, fake) | _lacking(pipeline, judge, validation, fake)
    if not request.metrics:
        cannot = {name: SLOW.format(name) for name, one in METRICS.items() if one.slow} | cannot
    metrics, left_out = choose_metrics(request.metrics, METRICS, cannot)
    looked = request.features is not None or any(METRICS[name].features for name in metrics)
    return Plan(
        request=request,
        pipeline=pipeline,
        data=data,
        real=real,
        fake=fake,
        validation=validation,
        class_names=class_names,
        judge=judge,
        network=find_network(request, judge) if looked else None,
        metrics=metrics,
        left_out=left_out,
        batch_size=request.batch_size or usual_batch(),
    )


def _check(request: Evaluation) -> None:
    """ValueError for what is wrong whatever the images are."""
    for name in request.metrics:
        choose(METRICS, name, "metric")
    if (request.run is None) == (request.samples is None):
        raise ValueError("evaluate either a run or --samples")
    drawing = request.count is not None or request.seed is not None or request.options
    if request.samples and drawing:
        raise ValueError(
            "--count, --seed and the sampler's options say what a run draws; "
            "samples are measured all"
        )
    check_libraries()


def _reference(
    request: Evaluation, pipeline: Pipeline | None
) -> tuple[DataConfig | None, ImageSet]:
    """The data section, where there is one, and the reference images."""
    where = request.reference
    if where is not None and (Path(where).is_dir() or where.endswith(".npz")):
        found = from_files(where, channels=pipeline.tokenizer.channels if pipeline else None)
        own = pipeline.data.get("background", "white") if pipeline else "white"
        return None, found._replace(background=own)
    data = _own_data(pipeline) if where is None else data_of(where)
    return data, from_source(data, request.split)


def _own_data(pipeline: Pipeline | None) -> DataConfig:
    """What the run was trained on."""
    if pipeline is None or not pipeline.data:
        raise ValueError(
            "pass --reference: a config with a data section, a folder of images or an .npz file"
        )
    return DataConfig.model_validate(pipeline.data)


def data_of(config: str) -> DataConfig:
    """The data section of a config, by its name or path."""
    found = getattr(load(find_config(config)), "data", None)
    if found is None:
        raise ValueError(
            f"{config} has no data section: name the tokenizer's config, e.g. mnist/vqgan"
        )
    return found


def _class_names(
    request: Evaluation, pipeline: Pipeline | None, data: DataConfig | None
) -> Sequence[str]:
    """Those of the run, or of the reference's data; none if neither says."""
    if pipeline is not None:
        return pipeline.class_names
    return load_source(data.source, request.split).class_names if data else ()


def _samples(
    request: Evaluation, pipeline: Pipeline | None, real: ImageSet, class_names: Sequence[str]
) -> ImageSet:
    """What is measured; ValueError if it is not of the reference's size."""
    channels, *size = real.shape()
    if pipeline is None:
        found = _given(Path(str(request.samples)), channels, class_names)
        own = list(found.shape()[1:])
    else:
        count = 10_000 if request.count is None else request.count
        found = from_pipeline(pipeline, count, seed=request.seed or 0, options=request.options)
        drawn = pipeline.tokenizer.channels
        if drawn != channels:
            raise ValueError(f"{request.run} draws {drawn} channels, the reference has {channels}")
        own = list(pipeline.tokenizer.size_of(pipeline.net.grid))
    if own != size:
        raise ValueError(
            f"{request.run or request.samples} holds images of {own[0]}x{own[1]}, the reference is "
            f"{size[0]}x{size[1]}: resize either one, since any resize changes the numbers"
        )
    return found._replace(background=real.background)


def _given(samples: Path, channels: int, class_names: Sequence[str]) -> ImageSet:
    """Samples of any program."""
    if samples.suffix != ".npz" and not samples.is_dir():
        raise FileNotFoundError(f"no samples at {samples}: a folder of images or an .npz file")
    return from_files(samples, channels=channels, class_names=class_names)


def _judge(request: Evaluation, class_names: Sequence[str]) -> ClassifierFeatures | None:
    """The judge, if there is one; ValueError if it knows other classes."""
    judge, names = find_judge(request), tuple(class_names)
    if judge and judge.class_names and names and judge.class_names != names:
        said, wanted = (listed(some, 3) for some in (judge.class_names, names))
        raise ValueError(f"the judge knows {said}, not {wanted}: pass another one (--judge)")
    return judge


SLOW = "trains a net, so it is measured only where it is named: --metrics {},..."


def _lacking(
    pipeline: Pipeline | None,
    judge: ClassifierFeatures | None,
    validation: ImageSet | None,
    fake: ImageSet,
) -> dict[str, str]:
    """The metrics that need something that is not there -> what it is."""
    reasons = {}
    if validation is None:
        reasons["run"] = "needs a run and its data"
    if pipeline is None:
        reasons["tokenizer"] = "needs a run, whose tokenizer is known"
    if judge is None:
        reasons["judge"] = "needs a judge: --judge RUN, or --judge auto to train one"
    if fake.labels is None:
        reasons["labels"] = "the samples' labels are not known"
    cannot: dict[str, str] = {}
    for need, reason in reasons.items():
        for name, metric in METRICS.items():
            if need in metric.needs:
                cannot.setdefault(name, reason)
    return cannot


def _too_few(real: ImageSet, fake: ImageSet) -> dict[str, str]:
    """The metrics that need more images -> how many."""
    images = {"real": real, "fake": fake, "told real": real, "told fake": fake}
    images |= {"told decoded": real, "told drawn": fake}
    return {
        name: f"needs {metric.least} images at least on either side"
        for name, metric in METRICS.items()
        if any(images[side].num_images < metric.least for side in metric.sets if side in images)
    }
