"""evaluate: samples of a run, or of any other program, against real images -> numbers that say how they were made.

out/results.json  results.md (one row)  samples.png  neighbours.png (samples beside their nearest training images)
"""

from __future__ import annotations

import platform
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
from maskgit.data import spread
from maskgit.features import (
    ClassifierFeatures,
    FeatureNetwork,
    FeatureSet,
    extract,
    extract_cached,
    load_features,
)
from maskgit.image_sets import (
    ImageSet,
    chunks_of,
    from_folder,
    from_npz,
    from_pipeline,
    from_source,
    npz_arrays,
    reconstructions,
)
from maskgit.images import save_png, to_float
from maskgit.metrics import METRICS, estimate, neighbours
from maskgit.pipeline import Pipeline
from maskgit.plots import image_grid
from maskgit.processes import gather_rows, share_out, this_process
from maskgit.randomness import generator
from maskgit.report import Number, write_report
from maskgit.sources import SPLITS, load_source
from maskgit.wrapper import NonAutoregressiveWrapper
from vqgan.registry import choose

NEEDS_RUN = ("rfid", "bits")
PICTURED, NEAREST = 10, 5


@dataclass(frozen=True)
class Request:
    """What to measure. Either `run`, a trained generator, or `samples`, a folder of images or an ADM .npz file.

    reference: a config with a data section, a folder or an .npz file; by default what the run was trained on.
    features: an entry of FEATURES, by default the classifier that lies beside the run, else inception.
    judge: a classifier for class agreement, by default the same one. metrics: entries of METRICS, none for all that
    apply. options go to the sampler.
    """

    run: Path | None = None
    samples: Path | None = None
    reference: str | None = None
    split: str = "train"
    count: int = 10_000
    seed: int = 0
    metrics: Sequence[str] = ()
    features: str | None = None
    weights: Path | None = None
    judge: Path | None = None
    batch_size: int = 100
    out: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)


def evaluate(request: Request) -> str | None:
    """Measure, write the results -> a table on the main process, none on the others.

    ValueError or FileNotFoundError before any work if something asked for cannot be measured.
    """
    start = time.perf_counter()
    evaluation = _Evaluation(request)
    found = evaluation.measure()
    if found is None:
        return None
    evaluation.results["seconds"] = round(time.perf_counter() - start, 1)
    notes = [f"left out: {name}: {reason}" for name, reason in evaluation.left_out.items()]
    return write_report(evaluation.out, evaluation.results, found, notes, evaluation.pictures)


class _Evaluation:
    """The images, networks and sets of one request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        for name in request.metrics:
            choose(METRICS, name, "metric")
        if (request.run is None) == (request.samples is None):
            raise ValueError("evaluate either a run or --samples")
        self.pipeline = Pipeline.from_pretrained(request.run).to(this_process().device) if request.run else None
        self.data, self.real = self._reference()
        self.held_out = from_source(self.data, self._other_split()) if self.data else None
        self.fake = self._samples()
        self.judge = self._judge()
        self.metrics, self.left_out = self._metrics()
        self.wanted = {side for name in self.metrics for side in METRICS[name].sets}
        self.network = self._network()
        self.out = request.out or (request.run / "evaluation" if request.run else Path("evaluation"))
        state = this_process()
        self.results: dict[str, Any] = {
            "of": str(request.run or request.samples),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["maskgit", *sys.argv[1:]]),
            "samples": self.fake.about | {"count": self.fake.num_images},
            "reference": self.real.about | {"count": self.real.num_images},
            "features": self.network.about if self.network else None,
            "judge": self.judge.about if self.judge else None,
            "versions": _versions(),
            "machine": f"{platform.machine()}, {state.num_processes} processes on {state.device.type}",
        }

    def _other_split(self) -> str:
        return next(split for split in SPLITS if split != self.request.split)

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
            found = from_pipeline(self.pipeline, request.count, seed=request.seed, options=request.options)
            given = [self.pipeline.tokenizer.downscale * side for side in self.pipeline.transformer.grid]
        else:
            path = Path(str(request.samples))
            if path.suffix == ".npz":
                found = from_npz(path, channels=channels)
            elif path.is_dir():
                names = load_source(self.data.source, request.split).class_names if self.data else ()
                found = from_folder(path, channels=channels, class_names=names)
            else:
                raise FileNotFoundError(f"no samples at {path}: a folder of images or an .npz file")
            given = list(next(found.read([range(1)])).shape[2:])
        if given != size:
            raise ValueError(
                f"{request.run or request.samples} holds images of {given[0]}x{given[1]}, the reference is "
                f"{size[0]}x{size[1]}: resize either one, since any resize changes the numbers"
            )
        return found

    def _beside(self) -> Path | None:
        """The classifier that lies beside the run."""
        path = (self.request.run or Path("none")).parent / "classifier"
        return path if (path / "classifier.safetensors").is_file() else None

    def _judge(self) -> ClassifierFeatures | None:
        path = self.request.judge or (self.request.weights if self.request.features == "classifier" else None)
        path = path or self._beside()
        return ClassifierFeatures(path) if path else None

    def _metrics(self) -> tuple[list[str], dict[str, str]]:
        """Those to measure, and why some that nobody asked for are left out."""
        cannot = {} if self.data else dict.fromkeys(NEEDS_RUN, "needs a reference with a held-out split")
        if not self.pipeline:
            cannot |= dict.fromkeys(NEEDS_RUN, "needs a run")
        if self.judge is None:
            cannot["agreement"] = "needs a judge (--judge)"
        elif self.fake.labels is None:
            cannot["agreement"] = "the samples' labels are not known"
        if wrong := [name for name in self.request.metrics if name in cannot]:
            raise ValueError(f"{wrong[0]}: {cannot[wrong[0]]}")
        if self.request.metrics:
            return list(dict.fromkeys(self.request.metrics)), {}
        return [name for name in METRICS if name not in cannot], cannot

    def _network(self) -> FeatureNetwork | None:
        """The feature network, if any metric looks at features."""
        request = self.request
        name = request.features or ("classifier" if self.judge else "inception")
        if not set(self.metrics) - {"bits"} and request.features is None:
            return None
        if name == "classifier" and self.judge and request.weights in (None, request.judge):
            return self.judge
        return load_features(name, request.weights)

    def measure(self) -> dict[str, Number] | None:
        """Every number, on the main process."""
        sets = self._sets()
        if not this_process().is_main_process:
            return None
        found: dict[str, Number] = {}
        for name in self.metrics:
            metric = METRICS[name]
            real, fake = (sets[side] for side in metric.sets)
            floor: dict[str, float] = {}
            if "fake" in metric.sets:
                first, second = self._floor(sets)
                if name != "agreement" or second.labels is not None:  # a folder of real images may have none
                    floor = metric.compute(second if metric.sets[0] == "fake" else first, second)
            print(f"measure {name}", file=sys.stderr, flush=True)
            for key, value in estimate(metric, real, fake).items():
                found[key] = Number(*value, floor.get(key), metric.better)
        self.pictures = self._pictures(sets)
        return found

    def _floor(self, sets: dict[str, FeatureSet]) -> tuple[FeatureSet, FeatureSet]:
        """Two sets of real images, the second of as many as there are samples where there are so many."""
        real = sets["real"]
        if "held out" in sets:
            self.results["floor"] = f"{sets['held out'].num_images} held-out real images"
            return real, sets["held out"]
        rows = torch.arange(len(real.features))
        self.results["floor"] = f"one half of the reference against the other, {len(rows) // 2} images each"
        return real.take(rows[::2]), real.take(rows[1::2])

    def _sets(self) -> dict[str, FeatureSet]:
        """Every set that the metrics ask for; made by all processes together, and complete on the main one."""
        sets: dict[str, FeatureSet | None] = {}
        if self.network is not None:
            keywords: dict[str, Any] = {"judge": self.judge, "batch_size": self.request.batch_size}
            if self.wanted & {"real", "fake"}:
                sets["real"] = self._with_published(extract_cached(self.real, self.network, title="real", **keywords))
                if self.data:
                    few = from_source(self.data, self._other_split(), self.fake.num_images)
                    sets["held out"] = extract_cached(few, self.network, title="held out", **keywords)
                sets["fake"] = extract(self.fake, self.network, title="samples", **keywords)
            if "decoded" in self.wanted and self.held_out and self.pipeline:
                decoded = reconstructions(self.pipeline.tokenizer, self.held_out)
                sets["originals"] = extract_cached(self.held_out, self.network, title="originals", **keywords)
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
        assert self.pipeline is not None and self.held_out is not None
        tokenizer, device = self.pipeline.tokenizer, this_process().device
        net = self.pipeline.transformer
        wrapper = NonAutoregressiveWrapper(net, mask_id=net.mask_id).eval()
        chunks = chunks_of(self.held_out.num_images, self.request.batch_size)
        pixels: Iterator[torch.Tensor] = self.held_out.read([c for _, c in share_out(chunks) if c is not None])
        rows = []
        for _, chunk in share_out(chunks):
            found = torch.empty(0, 1)
            if chunk is not None:
                codes = tokenizer.encode(to_float(next(pixels).to(device)))
                labels = torch.from_numpy(self.held_out.labels[chunk]).to(device)  # type: ignore[index]
                draws = generator(self.request.seed, chunk.start, device=device)
                found = wrapper.bits(codes, labels=labels, generator=draws)[:, None].float()
            rows.append(gather_rows(found).cpu())
        if not this_process().is_main_process:
            return None
        values = torch.cat(rows)
        empty = np.zeros(0)
        indices = torch.arange(len(values))
        return FeatureSet(len(values), empty, empty, values, values, None, None, indices, self.held_out.about)

    def _pictures(self, sets: dict[str, FeatureSet]) -> list[str]:
        """samples.png, and neighbours.png: each sample, then its nearest reference images."""
        if "fake" not in sets:
            return []
        images = _some(self.fake, spread(min(self.fake.num_images, 10 * PICTURED), 10 * PICTURED))
        save_png(image_grid(to_float(images), num_columns=PICTURED), self.out / "samples.png")
        last = len(sets["fake"].features) - 1
        shown = [min(n + k, last) for k, n in enumerate(spread(last + 1, PICTURED))]  # not all of one label
        near = neighbours(sets["real"], sets["fake"].take(torch.tensor(shown)), NEAREST).indices
        samples = _some(self.fake, sets["fake"].indices[shown].tolist())
        real = _some(self.real, near.flatten().tolist()).unflatten(0, near.shape)
        rows = torch.cat((samples[:, None], real), dim=1).flatten(0, 1)
        names = [f"sample {number}, nearest {NEAREST}" for number in shown]
        picture = image_grid(to_float(rows), num_columns=1 + NEAREST, row_names=names)
        save_png(picture, self.out / "neighbours.png")
        return ["samples.png", "neighbours.png"]


def _versions() -> dict[str, str]:
    """Of what the numbers depend on, as far as it is installed."""
    found = {}
    for name in ("torch", "torch-fidelity", "prdc", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _some(images: ImageSet, numbers: Sequence[int]) -> torch.Tensor:
    """uint8 (n, c, h, w) of the images with these numbers; neighbouring numbers are read together."""
    chunks: list[range] = []
    for number in numbers:
        if chunks and chunks[-1].stop == number:
            chunks[-1] = range(chunks[-1].start, number + 1)
        else:
            chunks.append(range(number, number + 1))
    return torch.cat(list(images.read(chunks)))
