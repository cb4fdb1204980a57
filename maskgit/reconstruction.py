"""evaluate of a tokenizer: what its codes lose on held-out images, and how its codebook is used.

out/results.json  results.md (one row)  reconstructions.png  codes.png (how often each code occurs)
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from maskgit.evaluation import Evaluation, library_versions
from maskgit.features import FeatureNetwork, extract, extract_cached, load_features
from maskgit.image_sets import ImageSet, chunks_of, from_source, reconstructions
from maskgit.images import save_png, to_float, to_uint8
from maskgit.metrics import METRICS, check_libraries, estimate
from maskgit.order import spread
from maskgit.plots import bar_chart, pairs
from maskgit.processes import gather_rows, share_out, this_process, usual_batch
from maskgit.report import Number, write_report
from maskgit.tokenization import tokenizer_data
from vqgan import health
from vqgan.perceptual import LPIPS
from vqgan.registry import choose
from vqgan.tokenizer import Tokenizer
from vqgan.weights import content_hash, weights_of


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, in dB."""
    return health.psnr(images, targets)


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004, a Gaussian window of 11 pixels), by torchmetrics."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = ((side.double() + 1) / 2 for side in (images, targets))  # its luminance is of intensities from 0
    found = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return torch.as_tensor(found).reshape(len(images))


def lpips(images: Tensor, targets: Tensor) -> Tensor:
    """The learned perceptual distance of each image (Zhang et al. 2018), with AlexNet, by torchmetrics."""
    return _lpips_network(images.device).distances(images, targets)


LPIPS_NET = "alex"


@cache
def _lpips_network(device: torch.device) -> LPIPS:
    return LPIPS(net=LPIPS_NET).to(device)


def _has_lpips() -> bool:
    """Whether LPIPS's backbone is here already: nothing is downloaded unless somebody names the metric."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return any(folder.glob(f"{LPIPS_NET}*.pth"))


class PixelMetric(NamedTuple):
    """(images, targets), both (batch, channels, height, width) in [-1, 1] -> (batch,)."""

    compute: Callable[[Tensor, Tensor], Tensor]
    better: str


PIXEL_METRICS = {
    "psnr": PixelMetric(psnr, "higher"),
    "ssim": PixelMetric(ssim, "higher"),
    "lpips": PixelMetric(lpips, "lower"),
}
KNOWN = (*PIXEL_METRICS, "rfid", "codes")


def is_tokenizer(run: Path) -> bool:
    """Whether a folder is the run of a tokenizer, or a file its weights, and no generator."""
    return run.suffix == ".safetensors" or (
        (run / "tokenizer.safetensors").is_file() and not (run / "config.json").is_file()
    )


def evaluate_tokenizer(request: Evaluation) -> str | None:
    """Measure, write the results -> a table on the main process, none on the others.

    Of the validation split, its first `count` images spread evenly; pixels are rounded to 8 bits, as a PNG holds them.
    rFID is in the features of `request.features`, left out if nobody names a network and no classifier lies beside the
    run. ValueError before any work if something cannot be measured.
    """
    assert request.run is not None
    if request.options or request.samples or request.reference or request.seed is not None:
        raise ValueError(f"{request.run} is a tokenizer: it draws nothing, so no sampler, seed or reference applies")
    for name in request.metrics:
        choose(dict.fromkeys(KNOWN), name, "metric of a tokenizer")
    check_libraries()
    weights = weights_of(request.run, "tokenizer")
    tokenizer = Tokenizer.load(weights).to(this_process().device)
    images = from_source(tokenizer_data(weights), "validation", request.count)
    wanted, left_out = _wanted(request, images)
    network = load_features(*_network(request)) if "rfid" in wanted else None  # type: ignore[misc]
    out = request.out or (request.run if request.run.is_dir() else request.run.parent) / "evaluation"
    numbers, counts = measure_tokenizer(tokenizer, images, network, wanted, request.batch_size or usual_batch())
    if not this_process().is_main_process:
        return None
    results = {
        "of": str(request.run),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "weights": {"tokenizer": content_hash(weights, "tokenizer")},
        "samples": {"set": "reconstructions", "count": images.num_images},
        "reference": images.about | {"count": images.num_images},
        "features": network.about if network else None,
        "versions": library_versions(),
    }
    notes = [f"left out: {name}: {reason}" for name, reason in left_out.items()]
    return write_report(out, results, numbers, notes, _pictures(tokenizer, images, counts, out))


def measure_tokenizer(
    tokenizer: Tokenizer,
    images: ImageSet,
    network: FeatureNetwork | None,
    wanted: list[str],
    batch_size: int,
    intervals: bool = True,
) -> tuple[dict[str, Number], Tensor]:
    """The numbers `wanted` (of KNOWN) and how often each code occurs; whole on the main process. network: of rFID.

    intervals: also of rFID, which then takes eleven times as long.
    """
    found, counts = _pixels_and_codes(tokenizer, images, batch_size, wanted)
    numbers = {name: _mean(values, PIXEL_METRICS[name].better) for name, values in found.items()}
    if network is not None:
        originals = extract_cached(images, network, title="originals", batch_size=batch_size)
        decoded = extract(reconstructions(tokenizer, images), network, title="decoded", batch_size=batch_size)
        if originals is not None and decoded is not None:
            value = estimate(METRICS["rfid"], originals, decoded, intervals)["rfid"]
            numbers["rfid"] = Number(*value, None, METRICS["rfid"].better)
    if "codes" in wanted and this_process().is_main_process:
        numbers |= _use(counts, tokenizer.remedy)
    return numbers, counts


def _beside(request: Evaluation) -> Path | None:
    """The classifier that lies beside the run."""
    path = Path(str(request.run)).parent / "classifier"
    return path if (path / "classifier.safetensors").is_file() else None


def _network(request: Evaluation) -> tuple[str, Path | None] | None:
    """The feature network to use, and its weights."""
    if request.features is not None:
        own = request.features == "classifier" and request.weights is None
        return request.features, _beside(request) if own else request.weights
    beside = request.weights or _beside(request)
    return None if beside is None else ("classifier", beside)


def _wanted(request: Evaluation, images: ImageSet) -> tuple[list[str], dict[str, str]]:
    """What to measure, and why rFID is left out if it is."""
    cannot = {}
    if _network(request) is None:
        cannot["rfid"] = "needs a feature network (--features)"
    elif images.num_images < METRICS["rfid"].least:
        cannot["rfid"] = f"needs {METRICS['rfid'].least} images at least"
    if not request.metrics and not _has_lpips():
        cannot["lpips"] = "its backbone is not here: `--metrics lpips,...` downloads it"
    if "lpips" in request.metrics:
        _lpips_network(this_process().device)  # says now what is missing
    if wrong := [name for name in request.metrics if name in cannot]:
        raise ValueError(f"{wrong[0]}: {cannot[wrong[0]]}")
    return list(request.metrics) or [name for name in KNOWN if name not in cannot], {} if request.metrics else cannot


@torch.no_grad()
def _pixels_and_codes(
    tokenizer: Tokenizer, images: ImageSet, batch_size: int, wanted: list[str]
) -> tuple[dict[str, Tensor], Tensor]:
    """Each pixel metric of every image, and how often each code occurs, over all processes."""
    state, names = this_process(), [name for name in PIXEL_METRICS if name in wanted]
    chunks = chunks_of(images.num_images, batch_size)
    pixels = images.read([chunk for _, chunk in share_out(chunks) if chunk is not None])
    sizes = (tokenizer.codebook_size, tokenizer.codes_per_cell)
    counts = torch.zeros(sizes[::-1], dtype=torch.int64)
    rows = []
    with tqdm(total=images.num_images, unit="image", desc="decode", disable=not state.is_main_process) as bar:
        for _, chunk in share_out(chunks):
            found, codes = torch.empty(0, len(names)), torch.empty(0, 1, dtype=torch.int64)
            if chunk is not None:
                originals = to_float(next(pixels).to(state.device))
                grids = tokenizer.encode(originals)
                decoded = to_float(to_uint8(tokenizer.decode(grids)))
                columns = [PIXEL_METRICS[name].compute(decoded, originals).float() for name in names]
                found = torch.stack(columns, 1) if columns else torch.empty(len(grids), 0)
                codes = grids.flatten(1)
            rows.append(gather_rows(found).cpu())
            counts += health.code_counts(gather_rows(codes).cpu(), *sizes)
            bar.update(len(rows[-1]))
    values = torch.cat(rows)
    return {name: values[:, k] for k, name in enumerate(names)}, counts


def _mean(values: Tensor, better: str) -> Number:
    """The mean over images with its 95 % interval."""
    values = values.double()
    half = 1.96 * values.std().item() / len(values) ** 0.5 if len(values) > 30 else float("nan")
    return Number(values.mean().item(), half, None, better)


def _use(counts: Tensor, remedy: str) -> Mapping[str, Number]:
    """How the codebook is used."""
    if warning := health.unused_codes(counts, remedy):
        print(warning, file=sys.stderr)
    better = {"codes_used": "higher", "perplexity": "higher", "dead_codes": "lower"}
    return {k: Number(value, float("nan"), None, better[k]) for k, value in health.code_health(counts).items()}


def _pictures(tokenizer: Tokenizer, images: ImageSet, counts: Tensor, out: Path, num_images: int = 30) -> list[str]:
    """Originals beside reconstructions, and the codes by how often they occur."""
    numbers = spread(images.num_images, num_images)
    originals = to_float(torch.cat(list(images.read([range(i, i + 1) for i in numbers]))))
    decoded = tokenizer.decode(tokenizer.encode(originals.to(this_process().device))).cpu()
    save_png(pairs(originals, decoded), out / "reconstructions.png")
    shares = (counts.flatten().sort(descending=True).values.double() / counts.sum() * 100).tolist()
    bar_chart(shares, out / "codes.png", x="codes, the most frequent first", y="% of the codes")
    return ["reconstructions.png", "codes.png"]
