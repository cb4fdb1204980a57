"""evaluate of a tokenizer: what its codes lose on held-out images, and how its codebook is used.

Pictures: reconstructions.png  codes.png (how often each code occurs)
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from maskgit.data.alpha import on_colour
from maskgit.data.order import spread
from maskgit.data.pixels import to_float, to_uint8
from maskgit.data.tokenization import tokenizer_data
from maskgit.evaluation.feature_sets import FeatureSet, extract_reconstructions
from maskgit.evaluation.features import FeatureNetwork, load_features
from maskgit.evaluation.image_sets import ImageSet, from_files, from_source, shared_out
from maskgit.evaluation.instruments import other_networks, tokenizer_network
from maskgit.evaluation.metrics import METRICS, check_libraries, estimate
from maskgit.evaluation.plan import data_of
from maskgit.evaluation.report import Number, Results, left_out_notes, library_versions, provenance
from maskgit.evaluation.request import TokenizerEvaluation, choose_metrics
from maskgit.machine import usual_batch
from maskgit.pictures import pairs
from maskgit.plots import bar_chart
from maskgit.processes import gather_rows, this_process
from vqgan.devices import widest_float
from vqgan.grids import GridTokenizer
from vqgan.health import code_counts, code_health, psnr, unused_codes
from vqgan.perceptual import LPIPS
from vqgan.registry import choose
from vqgan.tokenizers import load_tokenizer
from vqgan.weights import content_hash, weights_of


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004, a Gaussian window of 11 pixels), by
    torchmetrics."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    # its luminance is of intensities from 0
    wide = widest_float(images.device)
    a, b = ((side.to(wide) + 1) / 2 for side in (images, targets))
    found = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return torch.as_tensor(found).reshape(len(images))


def lpips(images: Tensor, targets: Tensor) -> Tensor:
    """The learned perceptual distance of each image (Zhang et al. 2018), with AlexNet, by
    torchmetrics."""
    return lpips_network(images.device).distances(images, targets)


LPIPS_NET = "alex"


@cache
def lpips_network(device: torch.device) -> LPIPS:
    """The network of `lpips`, made once."""
    return LPIPS(net=LPIPS_NET).to(device)


def _has_lpips() -> bool:
    """Whether LPIPS's backbone is here: nothing is downloaded unless somebody names the metric."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return any(folder.glob(f"{LPIPS_NET}*.pth"))


class PixelMetric(NamedTuple):
    """Of images and targets, both (batch, channels, height, width) in [-1, 1] -> (batch,)."""

    compute: Callable[[Tensor, Tensor], Tensor]
    better: str  # "lower" or "higher"
    load: Callable[[torch.device], object] | None = None  # its backbone, which may be a download
    is_here: Callable[[], bool] = lambda: True  # whether it takes no download


PIXEL_METRICS = {
    "psnr": PixelMetric(psnr, "higher"),
    "ssim": PixelMetric(ssim, "higher"),
    "lpips": PixelMetric(lpips, "lower", lpips_network, _has_lpips),
}

FEATURE_METRICS = {name: entry for name, entry in METRICS.items() if "decoded" in entry.sets}
"""Those of reconstructed images."""


def use_of_codes(counts: Tensor, remedy: str) -> dict[str, Number]:
    """How the codebook is used, and a warning if it hardly is.

    counts: (codes_per_cell, codebook_size) int64, how often each code occurs; remedy: what helps.
    """
    if warning := unused_codes(counts, remedy):
        print(warning, file=sys.stderr)
    better = {"codes_used": "higher", "perplexity": "higher", "dead_codes": "lower"}
    return {
        name: Number(value, math.nan, None, better[name])
        for name, value in code_health(counts).items()
    }


CODE_METRICS = {"codes": use_of_codes}

TOKENIZER_METRICS = (*PIXEL_METRICS, *FEATURE_METRICS, *CODE_METRICS)
"""All names, in the order of the numbers."""


def evaluate_tokenizer(request: TokenizerEvaluation) -> Results | None:
    """Measure -> the results on the main process, none on the others; nothing is written.

    Of the reference, or of the validation split of what it was trained on, `count` images spread
    evenly over it; pixels are rounded to 8 bits, as a PNG holds them. rFID is left out if
    nobody names a feature network and no classifier lies beside the run. ValueError before any work
    if something cannot be measured.
    """
    for name in request.metrics:
        choose(dict.fromkeys(TOKENIZER_METRICS), name, "metric of a tokenizer")
    check_libraries()
    weights = weights_of(request.run, "tokenizer")
    tokenizer = load_tokenizer(weights).to(this_process().device)
    images = _held_out(request, weights, tokenizer)
    named = tokenizer_network(request)
    cannot = _cannot(request, named is not None, images)
    wanted, left_out = choose_metrics(request.metrics, TOKENIZER_METRICS, cannot)
    looked = named is not None and any(name in FEATURE_METRICS for name in wanted)
    network = load_features(*named) if named is not None and looked else None
    others = other_networks(request) if looked else {}
    batch_size = request.batch_size or usual_batch()
    numbers, counts = measure_tokenizer(tokenizer, images, network, wanted, batch_size)
    for name, other in others.items():
        sets = extract_reconstructions(tokenizer, images, other, batch_size=batch_size)
        found = _of_features(sets, wanted, intervals=True)
        numbers |= {f"{key}_{name}": number for key, number in found.items()}
    if not this_process().is_main_process:
        return None
    about = {
        **provenance(str(request.run)),
        "weights": {"tokenizer": content_hash(weights, "tokenizer")},
        "samples": {"set": "reconstructions", "count": images.num_images},
        "reference": images.counted(),
        "features": network.about if network else None,
        "other features": {name: other.about for name, other in others.items()},
        "versions": library_versions(),
    }
    pictures = _pictures(tokenizer, images, counts) if request.pictures else {}
    return Results(about, numbers, left_out_notes(left_out), pictures)


def _held_out(request: TokenizerEvaluation, weights: Path, tokenizer: GridTokenizer) -> ImageSet:
    """What it is measured on; ValueError if it takes other images."""
    where = request.reference
    if where is not None and (Path(where).is_dir() or where.endswith(".npz")):
        if request.count is not None:
            raise ValueError("--count is of a config's images; those of a folder are measured all")
        found = from_files(where, channels=tokenizer.channels)
    else:
        data = tokenizer_data(weights) if where is None else data_of(where)
        found = from_source(data, "validation", request.count)
    channels, *size = found.shape()
    if channels != tokenizer.channels:
        raise ValueError(f"{request.run} takes {tokenizer.channels} channels, {where} {channels}")
    tokenizer.check_size(*size)
    return found


def _cannot(request: TokenizerEvaluation, has_network: bool, images: ImageSet) -> dict[str, str]:
    """The metrics that cannot be measured -> the reason; loads what those asked for need."""
    cannot = {}
    for name, metric in FEATURE_METRICS.items():
        if not has_network:
            cannot[name] = "needs a feature network (--features)"
        elif images.num_images < metric.least:
            cannot[name] = f"needs {metric.least} images at least"
    for name, entry in PIXEL_METRICS.items():
        if entry.load is not None and name in request.metrics:
            entry.load(this_process().device)  # says now what is missing
        elif not request.metrics and not entry.is_here():
            cannot[name] = f"its backbone is not here: `--metrics {name},...` downloads it"
    return cannot


def measure_tokenizer(
    tokenizer: GridTokenizer,
    images: ImageSet,
    network: FeatureNetwork | None,
    wanted: Sequence[str],
    batch_size: int,
    intervals: bool = True,
) -> tuple[dict[str, Number], Tensor]:
    """The numbers `wanted` (of TOKENIZER_METRICS), and how often each code occurs.

    Whole on the main process. network: of rFID. intervals: also of rFID, which then takes eleven
    times as long.
    """
    found, counts = _pixels_and_codes(tokenizer, images, batch_size, wanted)
    numbers = {name: _mean(values, PIXEL_METRICS[name].better) for name, values in found.items()}
    if network is not None:
        sets = extract_reconstructions(tokenizer, images, network, batch_size=batch_size)
        numbers |= _of_features(sets, wanted, intervals)
    if this_process().is_main_process:
        for name in [name for name in CODE_METRICS if name in wanted]:
            numbers |= CODE_METRICS[name](counts, tokenizer.remedy)
    return numbers, counts


def _of_features(
    sets: Mapping[str, FeatureSet | None], wanted: Sequence[str], intervals: bool
) -> dict[str, Number]:
    """The numbers of FEATURE_METRICS, on the main process; the others have no sets."""
    numbers: dict[str, Number] = {}
    for name, metric in FEATURE_METRICS.items():
        originals, decoded = (sets[side] for side in metric.sets)
        if name in wanted and originals is not None and decoded is not None:
            found = estimate(metric, originals, decoded, intervals)
            numbers |= {key: Number(*value, None, metric.better) for key, value in found.items()}
    return numbers


@torch.no_grad()
def _pixels_and_codes(
    tokenizer: GridTokenizer, images: ImageSet, batch_size: int, wanted: Sequence[str]
) -> tuple[dict[str, Tensor], Tensor]:
    """Each pixel metric of every image, and how often each code occurs, over all processes."""
    state, names = this_process(), [name for name in PIXEL_METRICS if name in wanted]
    sizes = (tokenizer.codebook_size, tokenizer.codes_per_cell)
    counts = torch.zeros(sizes[::-1], dtype=torch.int64)
    rows, main = [], state.is_main_process
    with tqdm(total=images.num_images, unit="image", desc="decode", disable=not main) as bar:
        for share in shared_out(images, batch_size):
            found, codes = torch.empty(0, len(names)), torch.empty(0, 1, dtype=torch.int64)
            if share is not None:
                originals = to_float(share.pixels.to(state.device))
                grids = tokenizer.encode(originals)
                decoded = to_float(to_uint8(tokenizer.decode(grids)))
                sides = (decoded, originals)
                seen = [on_colour(side, images.background) for side in sides]  # by a network
                metrics = [PIXEL_METRICS[name] for name in names]
                columns = [one.compute(*(seen if one.load else sides)) for one in metrics]
                empty = torch.empty(len(grids), 0)
                found = torch.stack([column.float() for column in columns], 1) if names else empty
                codes = grids.flatten(1)
            rows.append(gather_rows(found).cpu())
            counts += code_counts(gather_rows(codes).cpu(), *sizes)
            bar.update(len(rows[-1]))
    values = torch.cat(rows)
    return {name: values[:, k] for k, name in enumerate(names)}, counts


def _mean(values: Tensor, better: str) -> Number:
    """The mean over images with its 95 % interval."""
    values = values.double()
    half = 1.96 * values.std().item() / len(values) ** 0.5 if len(values) > 30 else math.nan
    return Number(values.mean().item(), half, None, better)


def _pictures(
    tokenizer: GridTokenizer, images: ImageSet, counts: Tensor, num_images: int = 30
) -> dict[str, Image.Image]:
    """Originals beside reconstructions, and the codes by how often they occur."""
    numbers = spread(images.num_images, num_images)
    originals = to_float(torch.cat(list(images.read([range(i, i + 1) for i in numbers]))))
    decoded = tokenizer.decode(tokenizer.encode(originals.to(this_process().device))).cpu()
    shares = (counts.flatten().sort(descending=True).values.double() / counts.sum() * 100).tolist()
    chart = bar_chart(shares, x="codes, the most frequent first", y="% of the codes")
    return {"reconstructions.png": pairs(originals, decoded), "codes.png": chart}
