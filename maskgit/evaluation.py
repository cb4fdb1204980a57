"""evaluate: samples of a run, or of any other program, against real images -> numbers that say how they were made.

out/results.json  results.md (one row)  samples.png  neighbours.png (samples beside their nearest reference images)
"""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskgit.config import DataConfig, find_config, load
from maskgit.features import ClassifierFeatures, FeatureNetwork, FeatureSet, extract, extract_cached, load_features
from maskgit.image_sets import (
    ImageSet,
    chunks_of,
    fingerprint,
    from_folder,
    from_npz,
    from_pipeline,
    from_source,
    npz_arrays,
    reconstructions,
)
from maskgit.images import to_float
from maskgit.metrics import METRICS, Metric, by_class, check_libraries, estimate
from maskgit.order import spread
from maskgit.processes import gather_rows, share_out, this_process, usual_batch
from maskgit.randomness import generator
from maskgit.report import Number, draw_pictures, write_report
from maskgit.sampling import load_pipeline, warn_of_preset
from maskgit.saved import pipeline_hashes
from maskgit.sources import SPLITS, load_source
from vqgan.registry import choose

NEEDS_RUN = ("rfid", "bits")


@dataclass(frozen=True)
class Evaluation:
    """What to measure. Either `run`, a trained generator, or `samples`, a folder of images or an ADM .npz file.

    reference: a config with a data section, a folder or an .npz file; by default what the run was trained on.
    features: an entry of FEATURES, by default the classifier that lies beside the run, else inception.
    judge: a classifier for class agreement, by default the same one. metrics: entries of METRICS, none for all that
    apply. count, seed and options (of the sampler) say what a run draws; given samples are measured all.
    rFID and bits per code are of the validation split, whatever `split`, the reference, is.
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
    batch_size: int | None = None  # maskgit.processes.usual_batch
    out: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    pictures: bool = True  # draw samples.png and neighbours.png


def evaluate(request: Evaluation) -> str | None:
    """Measure, write the results -> a table on the main process, none on the others.

    ValueError or FileNotFoundError before any work if something asked for cannot be measured.
    """
    start = time.perf_counter()
    measurement = _Measurement(request)
    found = measurement.measure()
    if found is None:
        return None
    measurement.results["seconds"] = round(time.perf_counter() - start, 1)
    notes = [f"left out: {name}: {reason}" for name, reason in measurement.left_out.items()]
    return write_report(measurement.out, measurement.results, found, notes, measurement.pictures)


def beside(run: Path | None) -> Path | None:
    """The classifier that lies beside a run."""
    path = (run or Path("none")).parent / "classifier"
    return path if (path / "classifier.safetensors").is_file() else None


def find_judge(request: Evaluation) -> ClassifierFeatures | None:
    """The one asked for, else the classifier of the features, else the one beside the run."""
    path = request.judge or (request.weights if request.features == "classifier" else None) or beside(request.run)
    return None if path is None else ClassifierFeatures(path)


def find_network(request: Evaluation, judge: ClassifierFeatures | None) -> FeatureNetwork:
    """The one asked for, else the judge, else Inception."""
    name = request.features or ("classifier" if judge else "inception")
    if name == "classifier" and judge and request.weights in (None, request.judge):
        return judge
    return load_features(name, request.weights)


def instruments(request: Evaluation) -> dict[str, Any]:
    """What would be measured with, with the hashes of the weights: {"features": ..., "judge": ...}."""
    judge = find_judge(request)
    return {"features": find_network(request, judge).about, "judge": judge.about if judge else None}


class _Measurement:
    """The images, networks and sets of one request."""

    def __init__(self, request: Evaluation) -> None:
        self.request, self.batch_size = request, request.batch_size or usual_batch()
        for name in request.metrics:
            choose(METRICS, name, "metric")
        if (request.run is None) == (request.samples is None):
            raise ValueError("evaluate either a run or --samples")
        if request.samples and (request.count is not None or request.seed is not None or request.options):
            raise ValueError("--count, --seed and the sampler's options say what a run draws; samples are measured all")
        check_libraries()
        self.pipeline = load_pipeline(request.run, request.precision) if request.run else None
        if self.pipeline is not None and request.run is not None:
            warn_of_preset(self.pipeline, request.run, request.options.get("preset"))
        self.data, self.real = self._reference()
        self.fake = self._samples()
        self.judge = self._judge()
        self.validation = self._validation()
        self.metrics, self.left_out = self._metrics()
        self.wanted = {side for name in self.metrics for side in METRICS[name].sets}
        self.network = self._network()
        self.out = request.out or (request.run / "evaluation" if request.run else Path("evaluation"))
        state = this_process()
        self.results: dict[str, Any] = {
            "of": str(request.run or request.samples),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "weights": self._weights(),
            "samples": self.fake.about | {"count": self.fake.num_images},
            "reference": self.real.about | {"count": self.real.num_images},
            "held out": self._held_out(),
            "features": self.network.about if self.network else None,
            "judge": self.judge.about if self.judge else None,
            "versions": library_versions(),
            "machine": f"{platform.machine()}, {state.num_processes} processes on {state.device.type}",
        }

    def _weights(self) -> dict[str, str]:
        """The hashes of what drew the samples, or of the samples."""
        if self.pipeline is None:
            return {"samples": fingerprint(self.fake)}
        return pipeline_hashes(Path(str(self.request.run)))

    def _validation(self) -> ImageSet | None:
        """The images that rFID and bits per code are of, where a run and its data are there."""
        return from_source(self.data, "validation") if self.data and self.pipeline else None

    def _held_out(self) -> dict[str, Any] | None:
        """What a table says of rFID's and bits' images."""
        if self.validation is None or not self.wanted & {"decoded", "bits"}:
            return None
        return {"of": "rFID and bits per code", **self.validation.about, "count": self.validation.num_images}

    def _class_names(self) -> Sequence[str]:
        """Those of the run, or of the reference's data; none if neither says."""
        if self.pipeline is not None:
            return self.pipeline.class_names
        return load_source(self.data.source, self.request.split).class_names if self.data else ()

    def _reference(self) -> tuple[DataConfig | None, ImageSet]:
        """The data section, where there is one, and the reference images."""
        where = self.request.reference
        if where is None:
            if self.pipeline is None or not self.pipeline.data:
                raise ValueError("pass --reference: a config with a data section, a folder of images or an .npz file")
            data = DataConfig.model_validate(self.pipeline.data)
            return data, from_source(data, self.request.split)
        if Path(where).is_dir() or where.endswith(".npz"):
            channels = self.pipeline.tokenizer.channels if self.pipeline else None
            read: Any = from_npz if where.endswith(".npz") else from_folder
            return None, read(where, channels=channels)
        found = getattr(load(find_config(where)), "data", None)
        if found is None:
            raise ValueError(f"{where} has no data section: name the tokenizer's config, e.g. mnist/vqgan")
        return found, from_source(found, self.request.split)

    def _samples(self) -> ImageSet:
        """What is measured; ValueError if it is not of the reference's size."""
        request = self.request
        channels, *size = next(self.real.read([range(1)])).shape[1:]
        if self.pipeline is not None:
            count = 10_000 if request.count is None else request.count
            found = from_pipeline(self.pipeline, count, seed=request.seed or 0, options=request.options)
            tokenizer = self.pipeline.tokenizer
            if tokenizer.channels != channels:
                raise ValueError(f"{request.run} draws {tokenizer.channels} channels, the reference has {channels}")
            given = [*tokenizer.size_of(self.pipeline.transformer.grid)]
        else:
            path = Path(str(request.samples))
            if path.suffix == ".npz":
                found = from_npz(path, channels=channels)
            elif path.is_dir():
                found = from_folder(path, channels=channels, class_names=self._class_names())
            else:
                raise FileNotFoundError(f"no samples at {path}: a folder of images or an .npz file")
            given = list(next(found.read([range(1)])).shape[2:])
        if given != size:
            raise ValueError(
                f"{request.run or request.samples} holds images of {given[0]}x{given[1]}, the reference is "
                f"{size[0]}x{size[1]}: resize either one, since any resize changes the numbers"
            )
        return found

    def _judge(self) -> ClassifierFeatures | None:
        judge, names = find_judge(self.request), tuple(self._class_names())
        if judge and judge.class_names and names and judge.class_names != names:
            said, wanted = (", ".join(some[:3]) for some in (judge.class_names, names))
            raise ValueError(f"the judge knows {said}, ..., not {wanted}, ...: pass another one (--judge)")
        return judge

    def _metrics(self) -> tuple[list[str], dict[str, str]]:
        """Those to measure, and why some that nobody asked for are left out."""
        cannot = dict.fromkeys(NEEDS_RUN, "needs a run and its data") if self.validation is None else {}
        if self.judge is None:
            cannot["agreement"] = "needs a judge (--judge)"
        elif self.fake.labels is None:
            cannot["agreement"] = "the samples' labels are not known"
        few = {"real": self.real, "fake": self.fake}
        for name, metric in METRICS.items():
            if min(few[side].num_images if side in few else metric.least for side in metric.sets) < metric.least:
                cannot[name] = f"needs {metric.least} images at least on either side"
        if wrong := [name for name in self.request.metrics if name in cannot]:
            raise ValueError(f"{wrong[0]}: {cannot[wrong[0]]}")
        if self.request.metrics:
            return list(dict.fromkeys(self.request.metrics)), {}
        return [name for name in METRICS if name not in cannot], cannot

    def _network(self) -> FeatureNetwork | None:
        """The feature network, if any metric looks at features."""
        if not set(self.metrics) - {"bits"} and self.request.features is None:
            return None
        return find_network(self.request, self.judge)

    def measure(self) -> dict[str, Number] | None:
        """Every number, on the main process."""
        sets = self._sets()
        if not this_process().is_main_process:
            return None
        found: dict[str, Number] = {}
        for name in self.metrics:
            metric = METRICS[name]
            real, fake = (sets[side] for side in metric.sets)
            floor = self._floor(metric, sets) if "fake" in metric.sets else {}
            print(f"measure {name}", file=sys.stderr, flush=True)
            for key, value in estimate(metric, real, fake).items():
                found[key] = Number(*value, floor.get(key), metric.better)
        if "fake" in sets:
            self.results["by class"] = by_class(sets["real"], sets["fake"], self._class_names())
        drawn = self.request.pictures and "fake" in sets
        self.pictures = draw_pictures(self.out, self.real, self.fake, sets) if drawn else []
        return found

    def _floor(self, metric: Metric, sets: dict[str, FeatureSet]) -> dict[str, float]:
        """The metric of real images in the place of the samples, as many where there are so many."""
        first, second = sets["real"], sets.get("held out")
        if second is None:  # a part of the reference against the rest of it
            size = len(first.features)
            part = torch.zeros(size, dtype=torch.bool)
            part[spread(size, min(self.fake.num_images, size // 2))] = True
            first, second = first.take(~part), first.take(part)
        if len(second.features) < metric.least or (second.labels is None and metric is METRICS["agreement"]):
            return {}
        count = f"{second.num_images} real images of {second.about['set']} in the place of the samples"
        fewer = " (FEWER than the samples)" if second.num_images < self.fake.num_images else ""
        self.results["floor"] = count + fewer
        return metric.compute(second if metric.sets[0] == "fake" else first, second)

    def _sets(self) -> dict[str, FeatureSet]:
        """Every set that the metrics ask for; made by all processes together, and complete on the main one."""
        sets: dict[str, FeatureSet | None] = {}
        if self.network is not None:
            keywords: dict[str, Any] = {"judge": self.judge, "batch_size": self.batch_size}
            if self.wanted & {"real", "fake"}:
                sets["real"] = self._with_published(extract_cached(self.real, self.network, title="real", **keywords))
                if self.data:
                    other = next(split for split in SPLITS if split != self.request.split)
                    few = from_source(self.data, other, self.fake.num_images)
                    sets["held out"] = extract_cached(few, self.network, title="held out", **keywords)
                sets["fake"] = extract(self.fake, self.network, title="samples", **keywords)
            if "decoded" in self.wanted and self.validation and self.pipeline:
                decoded = reconstructions(self.pipeline.tokenizer, self.validation)
                sets["originals"] = extract_cached(self.validation, self.network, title="originals", **keywords)
                sets["decoded"] = extract(decoded, self.network, title="decode", **keywords)
        if "bits" in self.wanted:
            sets["bits"] = self._bits()
        return {name: found for name, found in sets.items() if found is not None}

    def _with_published(self, real: FeatureSet | None) -> FeatureSet | None:
        """ADM's reference files hold few images but the mean and covariance of all: these are used with Inception."""
        path = str(self.request.reference)
        if real is None or not path.endswith(".npz") or "sigma" not in npz_arrays(path):
            return real
        with np.load(path, allow_pickle=False) as arrays:
            mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
        if self.network is None or self.network.about.get("weights") != "as published" or mean.shape != real.mean.shape:
            return real
        self.results["reference"]["statistics"] = "mu and sigma of the file"
        return real._replace(mean=mean, covariance=covariance)

    @torch.no_grad()
    def _bits(self) -> FeatureSet | None:
        """One estimate for each held-out image, as features of width one."""
        assert self.pipeline is not None and self.validation is not None
        model, tokenizer, device = self.pipeline.model, self.pipeline.tokenizer, this_process().device
        chunks = chunks_of(self.validation.num_images, self.batch_size)
        pixels: Iterator[torch.Tensor] = self.validation.read([c for _, c in share_out(chunks) if c is not None])
        rows = []
        for _, chunk in share_out(chunks):
            found = torch.empty(0, 1)
            if chunk is not None:
                codes = tokenizer.encode(to_float(next(pixels).to(device)))
                labels = torch.from_numpy(self.validation.labels[chunk]).to(device)  # type: ignore[index]
                draws = generator(self.request.seed or 0, chunk.start, device=device)
                found = model.bits(codes, labels=labels, generator=draws)[:, None].float()
            rows.append(gather_rows(found).cpu())
        if not this_process().is_main_process:
            return None
        values = torch.cat(rows)
        empty = np.zeros(0)
        indices = torch.arange(len(values))
        return FeatureSet(len(values), empty, empty, values, values, None, None, indices, self.validation.about)


def library_versions() -> dict[str, str]:
    """Of what the numbers depend on, as far as it is installed."""
    found = {}
    for name in ("torch", "torch-fidelity", "torchmetrics", "prdc", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
