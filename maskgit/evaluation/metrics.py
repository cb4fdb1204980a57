"""METRICS: numbers about samples, by kept libraries, each with an interval.

A metric is a function of two FeatureSets, listed in the table with the pair of sets that it
compares. Arithmetic on features is in float64.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskgit.data.order import spread
from maskgit.evaluation.feature_sets import FeatureSet
from maskgit.evaluation.features import FEATURES
from maskgit.evaluation.two_sample import LEAST, auc
from maskgit.machine import fair_threads, on_threads
from vqgan.registry import choose

GROUPS = 10
"""Groups of seeds that an interval is made from."""

MANIFOLD = 10_000
"""Images of either side that prdc looks at: its tables grow with their square."""

STUDENT = 2.262
"""97.5 % point of Student's t with GROUPS - 1 degrees of freedom."""


def check_libraries() -> None:
    """ValueError if the libraries that METRICS stand on are not installed."""
    names = ("torch_fidelity", "prdc", "torchmetrics")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        found = " and ".join(missing)
        raise ValueError(f"evaluation needs {found}: pip install 'maskgit-torch[evaluate]'")


def fid(real: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """Frechet distance of two Gaussians (Heusel et al., arXiv:1706.08500), by torch-fidelity, in
    float64.

    Biased upwards by about 1/n: compare at equal numbers of samples only.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    sides = [{"mu": side.mean, "sigma": side.covariance} for side in (real, fake)]
    return {"fid": fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID]}


def kid(real: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """Kernel distance (Binkowski et al., arXiv:1801.01401), 100 subsets of 1,000, by
    torch-fidelity; unbiased."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    size = min(1000, len(real.features), len(fake.features))
    options = {
        "kid_subsets": 100 if size == 1000 else 10,
        "kid_subset_size": size,
        "verbose": False,
    }
    found = kid_features_to_metric(fake.features.double(), real.features.double(), **options)
    return {"kid": found[KEY_METRIC_KID_MEAN]}


def inception_score(_: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """exp E KL(p(y|x) || p(y)) (Salimans et al., arXiv:1606.03498), mean of 10 splits, by
    torch-fidelity."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    splits = min(10, len(fake.logits))
    found = isc_features_to_metric(fake.logits, splits=splits)
    return {"inception_score": found[KEY_METRIC_ISC_MEAN]}


def prdc(real: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """Precision, recall, density, coverage with 5 neighbours (Naeem et al., arXiv:2002.09797), by
    prdc.

    On equally many images of either side; float64.
    """
    from prdc import compute_prdc

    size = min(len(real.features), len(fake.features))
    rows = [side.features[spread(len(side.features), size)] for side in (real, fake)]
    sides = [side.double().numpy() for side in rows]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the counts
        found = compute_prdc(*sides, nearest_k=5)
    return {name: float(value) for name, value in found.items()}


def agreement(_: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """Share of images that the judge reads as their label."""
    if fake.judged is None or fake.labels is None:
        raise ValueError("class agreement needs labels and a judge (--judge)")
    return {"class_agreement": (fake.judged == fake.labels).double().mean().item()}


def nearest_distance(real: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """Median distance of an image to its nearest neighbour among the kept reference images; copies
    of them are at 0.

    Held-out real images give the number to compare with: samples much below it are memorised.
    """
    return {"nearest_distance": neighbours(real, fake, 1).distances[:, 0].median().item()}


def reconstruction_fid(originals: FeatureSet, decoded: FeatureSet) -> dict[str, float]:
    """rFID: FID of reconstructed held-out images against the same images themselves."""
    return {"rfid": fid(originals, decoded)["fid"]}


def bits(_: FeatureSet, estimates: FeatureSet) -> dict[str, float]:
    """Upper bound on -log2 p(codes | label) / cells of held-out images; see
    NonAutoregressiveWrapper.bits."""
    return {"bits_per_code": estimates.features.double().mean().item()}


def two_sample(real: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """AUC of a small net trained to tell samples from real images, on images that it has not seen:
    the classifier two-sample test (Lopez-Paz & Oquab, arXiv:1610.06545)."""
    return {"c2st": auc(real.features[:, 0], fake.features[:, 0])}


def two_sample_reconstructions(decoded: FeatureSet, fake: FeatureSet) -> dict[str, float]:
    """As c2st, but from reconstructions of real images by the run's tokenizer: what is left is the
    generator's own."""
    return {"c2st_reconstructions": two_sample(decoded, fake)["c2st"]}


class Metric(NamedTuple):
    """A function of two sets, which they are, and what else there must be.

    All that `evaluate` does differently for one metric than for another is said here.
    """

    compute: Callable[[FeatureSet, FeatureSet], dict[str, float]]
    sets: tuple[str, str]  # among real, fake, originals, decoded, bits, ...: see generator.py
    better: str  # "lower" or "higher"
    unbiased: bool = False  # whether the mean over small groups estimates the same thing
    least: int = 1  # images that it needs on either side
    most: int | None = None  # images of either side that it looks at, spread evenly
    numbers: tuple[str, ...] = ()  # the names of its numbers, if not one of its own name
    paired: bool = False  # whether image i of one set belongs to image i of the other
    features: bool = True  # whether its sets are of what a feature network sees
    needs: tuple[str, ...] = ()  # among run (with its data), tokenizer, judge, labels (of samples)
    each: bool = False  # whether it is measured in each of several kinds of features
    slow: bool = False  # whether it is measured only where somebody names it


PRDC = ("precision", "recall", "density", "coverage")

METRICS: dict[str, Metric] = {
    "fid": Metric(fid, ("real", "fake"), "lower", least=2, each=True),
    "kid": Metric(kid, ("real", "fake"), "lower", unbiased=True, each=True),
    "is": Metric(inception_score, ("fake", "fake"), "higher", numbers=("inception_score",)),
    "prdc": Metric(
        prdc, ("real", "fake"), "higher", least=7, most=MANIFOLD, numbers=PRDC, each=True
    ),
    "agreement": Metric(
        agreement, ("fake", "fake"), "higher",
        unbiased=True, numbers=("class_agreement",), needs=("judge", "labels"),
    ),
    "nearest": Metric(
        nearest_distance, ("real", "fake"), "higher", unbiased=True, numbers=("nearest_distance",)
    ),
    "rfid": Metric(
        reconstruction_fid, ("originals", "decoded"), "lower",
        least=2, paired=True, each=True, needs=("run",),
    ),
    "bits": Metric(
        bits, ("bits", "bits"), "lower",
        unbiased=True, numbers=("bits_per_code",), features=False, needs=("run",),
    ),
    "c2st": Metric(
        two_sample, ("told real", "told fake"), "lower",
        unbiased=True, least=LEAST, paired=True, features=False, slow=True,
    ),
    "c2st_reconstructions": Metric(
        two_sample_reconstructions, ("told decoded", "told drawn"), "lower",
        unbiased=True, least=LEAST, paired=True, features=False, needs=("tokenizer",), slow=True,
    ),
}  # fmt: skip


WORST = "worst_fid"
"""The largest, among several kinds of features, of FID over that of as many real images."""

OF_SAMPLES = {"fake", "told fake", "told drawn"}
"""The sets that are made of samples."""


def metric_of(number: str) -> str:
    """The entry of METRICS that gives a number: prdc for coverage, fid for fid_mobilenet too.

    ValueError names all numbers.
    """
    if number == WORST:
        return "fid"
    owners = {
        found: name for name, metric in METRICS.items() for found in metric.numbers or (name,)
    }
    plain, _, kind = number.rpartition("_")
    if kind in FEATURES and plain in owners and METRICS[owners[plain]].each:
        return owners[plain]
    return choose(owners, number, "number")


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    half_width: float  # nan where there are too few images to tell


def estimate(
    metric: Metric, real: FeatureSet, fake: FeatureSet, intervals: bool = True
) -> dict[str, Estimate]:
    """The metric's numbers, with an interval over GROUPS groups of images (of seeds), or without.

    Unbiased metrics: Student's t over the groups' own values. The others: the delete-a-group
    jackknife (Kott 2001), whose variance is (G - 1) / G times the sum of squares of the G values
    without one group.
    """
    # before the groups, so that each leaves out a part of the same images
    if metric.most is not None:
        real, fake = (_few(side, metric.most) for side in (real, fake))
    with _threads():
        values = metric.compute(real, fake)
        if not intervals or len(fake.features) < 10 * GROUPS:
            return {name: Estimate(value, math.nan) for name, value in values.items()}
        parts = _by_group(metric, real, fake)
    factor = 1 / (GROUPS - 1) if metric.unbiased else GROUPS - 1  # of the mean square of deviations
    return {
        name: Estimate(value, STUDENT * math.sqrt(np.var([part[name] for part in parts]) * factor))
        for name, value in values.items()
    }


@contextmanager
def _threads() -> Iterator[None]:
    """The process's share of the machine, for torch and for the libraries under numpy."""
    from threadpoolctl import threadpool_limits

    number = fair_threads()
    if number == torch.get_num_threads():
        yield
        return
    with threadpool_limits(number), on_threads(number):
        yield


def _few(side: FeatureSet, most: int) -> FeatureSet:
    """At most so many of the kept images, spread evenly."""
    return side.take(torch.tensor(spread(len(side.features), most)))


def _by_group(metric: Metric, real: FeatureSet, fake: FeatureSet) -> list[dict[str, float]]:
    """The numbers of each group of the second set's images; of a biased metric, of all others."""
    size = len(fake.features)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    group = order * GROUPS // size  # at random: images may be sorted by label
    parts = []
    for number in range(GROUPS):
        chosen = group == number if metric.unbiased else group != number
        part = fake.take(chosen)
        other = part if real is fake else real.take(chosen) if metric.paired else real
        parts.append(metric.compute(other, part))
    return parts


LEAST_OF_CLASS = 10
"""Images of a class on either side, to say anything of it."""


def by_class(
    real: FeatureSet, fake: FeatureSet, class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Class by class: `shift`, and `agreement`, if there is a judge. Empty without labels.

    shift: the squared distance of the mean features from real ones (unbiased; FID's first term,
    were there but this class).
    """
    found: dict[str, dict[str, float]] = {}
    if real.labels is None or fake.labels is None:
        return found
    for label, name in enumerate(class_names):
        mine = fake.labels == label
        a, b = real.features[real.labels == label].double(), fake.features[mine].double()
        if min(len(a), len(b)) < LEAST_OF_CLASS:
            continue
        noise = sum(side.var(0).sum() / len(side) for side in (a, b))
        found[name] = {"shift": ((a.mean(0) - b.mean(0)).square().sum() - noise).item()}
        if fake.judged is not None:
            found[name]["agreement"] = (fake.judged[mine] == label).double().mean().item()
    return found


class Neighbours(NamedTuple):
    """The nearest reference images of each image, nearest first."""

    indices: Tensor  # (n, k) int64: their numbers in the reference set
    distances: Tensor  # (n, k) float64, Euclidean in feature space


def neighbours(real: FeatureSet, fake: FeatureSet, k: int) -> Neighbours:
    """Among the kept images of the reference."""
    indices, distances = [], []
    there = real.features.double()
    for part in fake.features.double().split(256):
        found = torch.cdist(part, there).topk(min(k, len(there)), largest=False)
        indices.append(real.indices[found.indices])
        distances.append(found.values)
    return Neighbours(torch.cat(indices), torch.cat(distances))
