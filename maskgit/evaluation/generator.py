"""evaluate: samples of a run, or of any other program, against real images -> numbers.

Three steps: `plan` refuses what cannot be measured; `see` lets the networks look at images, over
all processes; `measure` makes numbers of what they saw.
Pictures: samples.png  neighbours.png (samples beside their nearest reference images)
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from maskgit.data.npz import npz_arrays
from maskgit.data.order import spread
from maskgit.data.pixels import to_float
from maskgit.data.sources import SPLITS
from maskgit.evaluation.feature_sets import (
    FeatureSet,
    extract,
    extract_cached,
    extract_reconstructions,
)
from maskgit.evaluation.features import FeatureNetwork, SeveralFeatures
from maskgit.evaluation.image_sets import (
    ImageSet,
    fingerprint,
    from_source,
    reconstructions,
    shared_out,
    some_of,
)
from maskgit.evaluation.metrics import METRICS, WORST, Metric, by_class, estimate
from maskgit.evaluation.plan import Plan, plan
from maskgit.evaluation.report import (
    Number,
    Results,
    draw_pictures,
    left_out_notes,
    library_versions,
    provenance,
)
from maskgit.evaluation.request import Evaluation
from maskgit.evaluation.two_sample import MOST, STEPS, tell_apart
from maskgit.machine import fair_threads, on_threads
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.processes import gather_rows, this_process
from maskgit.randomness import generator


def evaluate(request: Evaluation) -> Results | None:
    """Measure -> the results on the main process, none on the others; nothing is written.

    ValueError or FileNotFoundError before any work if something asked for cannot be measured.
    """
    start = time.perf_counter()
    planned = plan(request)
    about = _about(planned)
    sets = see(planned)
    if not this_process().is_main_process:
        return None
    by_kind = in_each_kind(planned, sets)
    numbers, more = measure(planned, by_kind)
    drawn = request.pictures and "fake" in sets
    pictures = draw_pictures(planned.real, planned.fake, by_kind[""]) if drawn else {}
    about |= more | {"seconds": round(time.perf_counter() - start, 1)}
    return Results(about, numbers, left_out_notes(planned.left_out), pictures)


def _about(plan: Plan) -> dict[str, Any]:
    """How the numbers are made: JSON values."""
    request, state = plan.request, this_process()
    return {
        **provenance(str(request.run or request.samples)),
        "weights": _weights(plan),
        "samples": plan.fake.counted(),
        "reference": plan.real.counted(),
        "held out": _held_out(plan),
        "two-sample test": _two_sample_test(plan),
        "features": plan.network.about if plan.network else None,
        "judge": plan.judge.about if plan.judge else None,
        "versions": library_versions(),
        "machine": f"{platform.machine()}, {state.num_processes} processes on {state.device.type}",
    }


def _weights(plan: Plan) -> dict[str, str]:
    """The hashes of what draws the samples, or of the samples."""
    run = plan.request.run
    return {"samples": fingerprint(plan.fake)} if run is None else pipeline_hashes(run)


def _held_out(plan: Plan) -> dict[str, Any] | None:
    """What a table says of the images of the metrics that need a run's data."""
    if plan.validation is None or not any("run" in METRICS[name].needs for name in plan.metrics):
        return None
    return {"of": "rFID and bits per code", **plan.validation.counted()}


def _two_sample_test(plan: Plan) -> dict[str, Any] | None:
    """What a table says of how a net was trained to tell samples from real images."""
    if not any(METRICS[name].slow for name in plan.metrics):
        return None
    return {"images of either side": _most_told(plan.real, plan.fake), "steps at most": STEPS}


def _most_told(real: ImageSet, fake: ImageSet) -> int:
    return min(MOST, real.num_images, fake.num_images)


Sets = dict[str, FeatureSet | None]
"""Sets by name; on other processes than the main one there are none."""


def see(plan: Plan) -> dict[str, FeatureSet]:
    """Every set that the metrics ask for; made by all processes together, for the main one."""
    found: Sets = {}
    for names, make in SETS.items():
        if plan.wanted.intersection(names):
            found |= make(plan)
    return {name: seen for name, seen in found.items() if seen is not None}


def _see_samples(plan: Plan) -> Sets:
    """The reference, the samples, and as many images of the split that is not the reference."""
    assert plan.network is not None
    size = plan.batch_size
    look: dict[str, Any] = {"network": plan.network, "judge": plan.judge, "batch_size": size}
    real = extract_cached(plan.real, title="real", **look)
    found: Sets = {"real": real}
    if plan.data:
        other = next(split for split in SPLITS if split != plan.request.split)
        few = from_source(plan.data, other, plan.fake.num_images)
        found["held out"] = extract_cached(few, title="held out", **look)
    return found | {"fake": extract(plan.fake, title="samples", **look)}


def in_each_kind(plan: Plan, sets: Mapping[str, FeatureSet]) -> dict[str, dict[str, FeatureSet]]:
    """The sets as each feature network sees them, by plan.kinds; all that is no network's is in
    the first."""
    network, seen = plan.network, {side for names in SEEN for side in names}
    if not isinstance(network, SeveralFeatures) or not seen.intersection(sets):
        found = {"": dict(sets)}
        networks = [network]
    else:
        edges = [0, *accumulate(network.widths)]
        found = {
            kind: {name: one.columns(*at) for name, one in sets.items() if name in seen}
            for kind, at in zip(plan.kinds, pairwise(edges), strict=True)
        }
        found[""] = dict(sets) | found[""]
        networks = list(network.networks)
    for one, its in zip(networks, found.values(), strict=True):
        if "real" in its:
            its["real"] = _with_published(plan, one, its["real"])
    return found


def _with_published(plan: Plan, network: FeatureNetwork | None, real: FeatureSet) -> FeatureSet:
    """With the mean and covariance of all images, where the reference is an ADM file with a few.

    Only with Inception's published weights, which they were made with.
    """
    path = str(plan.request.reference)
    if not path.endswith(".npz") or "sigma" not in npz_arrays(path):
        return real
    with np.load(path, allow_pickle=False) as arrays:
        mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
    published = network is not None and network.about.get("weights") == "as published"
    if not published or mean.shape != real.mean.shape:
        return real
    about = real.about | {"statistics": "mu and sigma of the file"}
    return real._replace(mean=mean, covariance=covariance, about=about)


def _see_reconstructions(plan: Plan) -> Sets:
    """The held-out images, and what the tokenizer makes of them."""
    assert plan.pipeline is not None and plan.validation is not None and plan.network is not None
    return extract_reconstructions(
        plan.pipeline.tokenizer,
        plan.validation,
        plan.network,
        plan.judge,
        batch_size=plan.batch_size,
    )


@torch.no_grad()
def _see_bits(plan: Plan) -> Sets:
    """One estimate for each held-out image, as features of width one."""
    assert plan.pipeline is not None and plan.validation is not None
    assert plan.validation.labels is not None
    model, tokenizer, device = plan.pipeline.model, plan.pipeline.tokenizer, this_process().device
    rows = []
    for share in shared_out(plan.validation, plan.batch_size):
        found = torch.empty(0, 1)
        if share is not None:
            codes = tokenizer.encode(to_float(share.pixels.to(device)))
            labels = torch.from_numpy(plan.validation.labels[share.numbers]).to(device)
            seed, start = plan.request.seed or 0, share.numbers.start
            draws = generator("bits", seed, start, device=device)
            found = model.bits(codes, condition=labels, generator=draws)[:, None].float()
        rows.append(gather_rows(found).cpu())
    if not this_process().is_main_process:
        return {}
    return {"bits": _of_values(torch.cat(rows), plan.validation.about)}


def _of_values(values: torch.Tensor, about: dict[str, Any]) -> FeatureSet:
    """A set of numbers (n, 1), one for each image, of which no mean and covariance are known."""
    empty, indices = np.zeros(0), torch.arange(len(values))
    return FeatureSet(len(values), empty, empty, values, values, None, None, indices, about)


def _see_told(plan: Plan) -> Sets:
    """What a net that is trained to tell samples from real images says of unseen ones."""
    return told(plan.real, plan.fake, ("told real", "told fake"), batch_size=plan.batch_size)


def _see_told_again(plan: Plan) -> Sets:
    """The same of samples and reconstructions of real images."""
    assert plan.pipeline is not None
    again = reconstructions(plan.pipeline.tokenizer, plan.real)
    return told(again, plan.fake, ("told decoded", "told drawn"), batch_size=plan.batch_size)


def told(real: ImageSet, fake: ImageSet, names: tuple[str, str], *, batch_size: int) -> Sets:
    """What a net says of unseen images of two sides, trained on the main process on equally many.

    names: of the two sets.
    """
    most = _most_told(real, fake)
    reals, fakes = (some_of(side, most, batch_size) for side in (real, fake))
    state = this_process()
    if not state.is_main_process:
        return {}
    print(f"train a net to tell {most} images from {most}", file=sys.stderr, flush=True)
    with on_threads(fair_threads()):
        scores = tell_apart(reals, fakes, device=state.device)
    about = {"of": most}
    return {n: _of_values(s[:, None], about) for n, s in zip(names, scores, strict=True)}


SEEN = (("real", "held out", "fake"), ("originals", "decoded"))
"""The sets of what a feature network sees."""

SETS: dict[tuple[str, ...], Callable[[Plan], Sets]] = {
    SEEN[0]: _see_samples,
    SEEN[1]: _see_reconstructions,
    ("bits",): _see_bits,
    ("told real", "told fake"): _see_told,
    ("told decoded", "told drawn"): _see_told_again,
}
"""The sets that metrics compare, and what makes those that are made together."""


class Measured(NamedTuple):
    """The numbers, and what is known of how they were made only now."""

    numbers: dict[str, Number]
    about: dict[str, Any]  # reference, floor and by class, of samples


def measure(plan: Plan, by_kind: Mapping[str, dict[str, FeatureSet]]) -> Measured:
    """Every number, with its interval and, of samples, the same number of real images.

    by_kind: see `in_each_kind`; a number in another than the first kind is named after it.
    """
    sets, drawn = by_kind[""], "fake" in by_kind[""]
    instead = {k: _floor_sets(plan, its) if drawn else {} for k, its in by_kind.items()}
    numbers: dict[str, Number] = {}
    for name in plan.metrics:
        print(f"measure {name}", file=sys.stderr, flush=True)
        for kind, its in by_kind.items():
            if not kind or METRICS[name].each:
                found = _numbers(METRICS[name], its, instead[kind])
                numbers |= {f"{key}{kind}": number for key, number in found.items()}
    if not drawn:
        return Measured(numbers, {})
    numbers |= _worst(numbers, list(by_kind))
    about: dict[str, Any] = {"reference": sets["real"].about}
    if any(number.floor is not None for number in numbers.values()):
        about["floor"] = _floor_words(plan, instead[""]["fake"])
    about["by class"] = by_class(sets["real"], sets["fake"], plan.class_names)
    return Measured(numbers, about)


def _worst(numbers: Mapping[str, Number], kinds: Sequence[str]) -> dict[str, Number]:
    """WORST, of several kinds of features; none where there is no FID of real images to divide by.

    Its interval is that of this FID alone.
    """
    fids = [numbers[f"fid{kind}"] for kind in kinds if f"fid{kind}" in numbers]
    if len(fids) < 2 or not all(one.floor is not None and one.floor > 0 for one in fids):
        return {}
    ratios = [Number(v / f, width / f, 1.0, "lower") for v, width, f, _ in fids if f]
    return {WORST: max(ratios)}


def _numbers(
    metric: Metric, sets: dict[str, FeatureSet], instead: dict[str, FeatureSet]
) -> dict[str, Number]:
    """instead: the sets again, with real images in the place of the samples."""
    real, fake = (sets[side] for side in metric.sets)
    floor = _floor(metric, instead) if "fake" in metric.sets else {}
    return {
        key: Number(*value, floor.get(key), metric.better)
        for key, value in estimate(metric, real, fake).items()
    }


def _floor_sets(plan: Plan, sets: dict[str, FeatureSet]) -> dict[str, FeatureSet]:
    """Real images in the place of the samples: held-out ones, else a part of the reference.

    That part is then compared with the rest of it.
    """
    if "held out" in sets:
        return {"real": sets["real"], "fake": sets["held out"]}
    size = len(sets["real"].features)
    part = torch.zeros(size, dtype=torch.bool)
    part[spread(size, min(plan.fake.num_images, size // 2))] = True
    return {"real": sets["real"].take(~part), "fake": sets["real"].take(part)}


def _floor(metric: Metric, instead: dict[str, FeatureSet]) -> dict[str, float]:
    """The metric of real images, as many where there are so many; empty where it cannot be said."""
    few = len(instead["fake"].features) < metric.least
    if few or ("labels" in metric.needs and instead["fake"].labels is None):
        return {}
    return metric.compute(*(instead[side] for side in metric.sets))


def _floor_words(plan: Plan, instead: FeatureSet) -> str:
    """What a table says of the real images in the place of the samples."""
    many = f"{instead.num_images} real images of {instead.about['set']}"
    fewer = " (FEWER than the samples)" if instead.num_images < plan.fake.num_images else ""
    return f"{many} in the place of the samples{fewer}"
