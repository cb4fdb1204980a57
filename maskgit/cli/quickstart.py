"""A small model's whole life in one command: from the tokenizer to samples and a report.

Every stage is the command of its own that the README shows; run again, each continues, or says that
it is done.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskgit.cli.stages import Stages
from maskgit.config.loading import find_config, load
from maskgit.config.sections import ClassifierConfig, MaskGITConfig, TokenizerConfig
from maskgit.data.codes import code_usage
from maskgit.data.datasets import ImageDataset, Quarantine, transform_of
from maskgit.data.manifest import read_manifest
from maskgit.data.order import spread
from maskgit.data.pixels import save_png, to_float
from maskgit.data.sources import load_source
from maskgit.data.tokenization import tokenize_dataset
from maskgit.machine import peak_memory
from maskgit.pictures import pairs
from maskgit.pipeline.drawing import Request, draw_grid, draw_views, load_pipeline, stream_items
from maskgit.pipeline.views import Views
from maskgit.plots import curves
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train
from vqgan.classifier import Classifier, class_agreement
from vqgan.health import psnr
from vqgan.registry import choose
from vqgan.tokenizers import load_tokenizer
from vqgan.weights import weights_of

STAGES = ("vqgan", "maskgit", "classifier")
COLUMNS = 10
NUM_JUDGED, NUM_REAL = 500, 1000
"""Samples that are judged, and held-out images, at most, that tokenizer and judge see."""


def run_quickstart(folder: str, overrides: Sequence[str] = (), *, fresh: bool = False) -> str:
    """Run the configs `folder/vqgan`, `folder/maskgit` and `folder/classifier` -> the report."""
    by_stage: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for override in overrides:
        stage, dot, rest = override.partition(".")
        choose(by_stage, stage if dot else override, "stage").append(rest)
    vqgan, maskgit, judge = (
        load(find_config(f"{folder}/{stage}"), by_stage[stage]) for stage in STAGES
    )
    if not (
        isinstance(vqgan, TokenizerConfig)
        and isinstance(maskgit, MaskGITConfig)
        and isinstance(judge, ClassifierConfig)
    ):
        raise ValueError(
            f"{folder} must hold vqgan, maskgit and classifier configs with those tasks"
        )
    out = Path(maskgit.run).parent
    if fresh:
        for path in (vqgan.run, maskgit.codes, maskgit.run, judge.run, out / "stages.json"):
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)
    stages = Stages(out / "stages.json")
    stages.run("train the tokenizer", lambda: train(vqgan), continues=True)
    stages.run("tokenise", lambda: tokenize_dataset(vqgan.run, maskgit.codes), continues=True)
    stages.run("train the generator", lambda: train(maskgit), continues=True)
    stages.run("train the judge", lambda: train(judge), continues=True)
    picture = stages.run("sample", lambda: _samples(maskgit, out))
    numbers = stages.run("measure", lambda: _measure(vqgan, maskgit, judge, out))
    return _report(picture, numbers, stages.seconds)


def _samples(config: MaskGITConfig, out: Path) -> list[Path]:
    """grid.png and strip.png."""
    pipeline = load_pipeline(Path(config.run))
    labels = list(range(min(10, len(pipeline.class_names))))
    request = Request(labels, COLUMNS, seed=0, batch_size=50, options={})
    grid = draw_grid(pipeline, request, out / "grid.png")
    few = Request(labels[:: max(1, len(labels) // 4)][:4], 1, seed=0, batch_size=50, options={})
    return [*filter(None, [grid]), *draw_views(pipeline, few, Views(strip=out / "strip.png"))]


@torch.no_grad()
def _measure(
    vqgan: TokenizerConfig, maskgit: MaskGITConfig, judge: ClassifierConfig, out: Path
) -> dict[str, Any]:
    """Numbers of the tokenizer and of the samples; also reconstructions.png and curves.png."""
    data = vqgan.data
    transform = transform_of(data)
    real = ImageDataset(load_source(data.source, "validation"), transform, quarantine=Quarantine())
    batch = real.__getitems__([(index, 0) for index in spread(len(real), NUM_REAL)])
    images = to_float(batch.data)
    tokenizer = load_tokenizer(weights_of(vqgan.run, "tokenizer"))
    decoded = torch.cat([tokenizer.decode(tokenizer.encode(part)) for part in images.split(100)])
    some = spread(len(images), 30)
    classifier, _ = Classifier.load(weights_of(judge.run, "classifier"))
    pipeline = load_pipeline(Path(maskgit.run))
    num_classes = len(pipeline.class_names)
    labels = [i % num_classes for i in range(NUM_JUDGED)]
    items = list(zip(labels, range(10_000, 10_000 + NUM_JUDGED), strict=True))
    folders = (vqgan.run, maskgit.run, judge.run)
    start = time.perf_counter()
    drawn = torch.stack(list(stream_items(pipeline, items, batch_size=100))).cpu()
    seconds = time.perf_counter() - start
    pictures = [
        save_png(pairs(images[some], decoded[some]), out / "reconstructions.png"),
        curves(
            {Path(run).name: read_metrics(Path(run) / "metrics.jsonl") for run in folders},
            out / "curves.png",
        ),
    ]
    return {
        "pictures": pictures,
        "codes": (
            f"{code_usage(maskgit.codes):.1%} of {read_manifest(maskgit.codes)['codebook_size']}"
        ),
        "psnr": psnr(decoded, images).mean().item(),
        "agreement": class_agreement(classifier, drawn, torch.tensor(labels)),
        "real": class_agreement(classifier, images, batch.labels),
        "num_real": len(images),
        "per_second": NUM_JUDGED / seconds,
    }


def _report(pictures: list[Path], numbers: dict[str, Any], seconds: dict[str, float]) -> str:
    lines = ["", "pictures"]
    lines += [f"  {path}" for path in [*pictures, *numbers["pictures"]]]
    lines += ["stages"]
    install = os.environ.get("INSTALL_SECONDS")  # `make demo` tells
    seconds = ({"install": float(install)} if install else {}) | seconds
    lines += [f"  {name:<22}{value:7.1f} s" for name, value in seconds.items()]
    lines += [f"  {'together':<22}{sum(seconds.values()):7.1f} s"]
    lines += [
        "numbers",
        f"  codes used             {numbers['codes']}",
        f"  reconstruction PSNR    {numbers['psnr']:.2f} dB on {numbers['num_real']} held-out "
        "images",
        f"  class agreement        {numbers['agreement']:.1%} of {NUM_JUDGED} samples are read "
        "as the class asked for",
        f"  the judge's accuracy   {numbers['real']:.1%} on the {numbers['num_real']} held-out "
        "real images",
        f"  sampling               {numbers['per_second']:.1f} images/s",
        f"  peak memory            {peak_memory():.0f} MiB",
    ]
    return "\n".join(lines)
