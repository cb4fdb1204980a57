"""The end of a quickstart: pictures of all classes, numbers, a verdict, and index.html."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from maskgit.cli.own.choosing import Plan
from maskgit.cli.own.expected import expected_curves, is_normal
from maskgit.cli.own.page import Figure, page
from maskgit.cli.own.verdict import Measured, as_numbers, is_falling, kept, verdict
from maskgit.config.sections import Config, DataConfig
from maskgit.data import save_png, spread, to_float, to_uint8
from maskgit.evaluation import ImageSet, extract, fid, from_source, load_features, reconstructions
from maskgit.pictures import pairs
from maskgit.pipeline import Pipeline
from maskgit.pipeline.drawing import Request, draw_grid, draw_views, load_pipeline
from maskgit.pipeline.views import Views
from maskgit.plots import curves
from maskgit.processes import this_process
from maskgit.training import read_metrics
from vqgan.files import replacing
from vqgan.health import psnr
from vqgan.tokenizers import load_tokenizer
from vqgan.weights import weights_of

MOST_CLASSES, COLUMNS = 24, 8
"""Rows and columns of the grid."""
MOST, FEWEST = 1000, 100
"""Samples that are measured."""
SHARE = 0.04
"""Of the time that they may take."""


def end(
    plan: Plan, configs: Mapping[str, Config], folder: str, out: Path, seconds: Mapping[str, float]
) -> str:
    """Draw, measure and write -> the report."""
    pipeline = load_pipeline(Path(configs["maskgit"].run))
    _pictures(pipeline, out)
    data = configs["vqgan"].data  # type: ignore[union-attr]
    found = measure(plan, configs, pipeline, data, out)
    rows = {stage: read_metrics(Path(configs[stage].run) / "metrics.jsonl") for stage in configs}
    curves(rows, out / "curves.png")
    expected_curves(rows, pipeline.model.mask_id, out / "expected.png")
    losses = [row["validation_loss"] for row in rows["maskgit"] if "validation_loss" in row]
    minutes = {stage: plan.minutes_of(stage) for stage in plan.shares}
    said = verdict(found, minutes=minutes, folder=folder, out=str(out), learning=is_falling(losses))
    said += is_normal(rows, pipeline.model.mask_id)
    with replacing(out / "numbers.json") as aside:
        aside.write_text(json.dumps(as_numbers(found) | {"verdict": said}, indent=1))
    with replacing(out / "index.html") as aside:
        aside.write_text(_page(plan, said, folder, out, seconds))
    took = [f"  {name:<50}{value / 60:6.1f} min" for name, value in seconds.items()]
    here = ["", f"  look at {out / 'index.html'}", f"  maskgit sample {out}/maskgit --out more.png"]
    return "\n".join(["", *said, "", *took, *here])


def _pictures(pipeline: Pipeline, out: Path) -> None:
    """grid.png with a row for each class, and strip.png of some of them, round by round."""
    labels = spread(len(pipeline.class_names), MOST_CLASSES)
    draw_grid(
        pipeline, Request(labels, COLUMNS, seed=0, batch_size=None, options={}), out / "grid.png"
    )
    some = [labels[i] for i in spread(len(labels), 4)]
    few = Request(some, 1, seed=0, batch_size=None, options={})
    list(draw_views(pipeline, few, Views(strip=out / "strip.png")))


@torch.no_grad()
def measure(
    plan: Plan, configs: Mapping[str, Config], pipeline: Pipeline, data: DataConfig, out: Path
) -> Measured:
    """What the tokenizer loses of held-out images; and, with a judge, FID of equal numbers of
    samples, reconstructions and other real images, of the same classes."""
    tokenizer = load_tokenizer(weights_of(configs["vqgan"].run, "tokenizer"))
    tokenizer.to(this_process().device)
    held = from_source(data, "validation", 300)
    originals = to_float(_all(held))
    decoded = to_float(_all(reconstructions(tokenizer, held)))
    some = spread(len(originals), 30)
    save_png(pairs(originals[some], decoded[some]), out / "reconstructions.png")
    colour, detail = kept(_seen(originals), _seen(decoded))
    found = Measured(psnr(decoded, originals).mean().item(), colour, detail)
    if "classifier" not in configs or importlib.util.find_spec("torch_fidelity") is None:
        return found
    network = load_features("classifier", configs["classifier"].run)
    train = from_source(data, "train")
    count = max(FEWEST, min(MOST, train.num_images // 2, _affordable(pipeline, plan)))
    real, other = _every_second(data, count)
    assert real.labels is not None
    labels = [int(label) for label in real.labels]

    def draw(chunks: Sequence[range]) -> Iterator[Tensor]:
        for chunk in chunks:
            images = pipeline.stream([labels[i] for i in chunk], [10_000 + i for i in chunk])
            yield to_uint8(torch.stack(list(images))).cpu()

    sets = {
        "real": real, "other": other, "decoded": reconstructions(tokenizer, real),
        "samples": real._replace(read=draw),
    }  # fmt: skip
    seen = {name: extract(images, network, title=name) for name, images in sets.items()}
    real_seen = seen["real"]
    if real_seen is None or any(one is None for one in seen.values()):
        return found
    apart = {name: fid(real_seen, one)["fid"] for name, one in seen.items() if one is not None}
    right = {
        name: (one.logits.argmax(1) == one.labels).float().mean().item()
        for name, one in (("samples", seen["samples"]), ("held", extract(held, network)))
        if one is not None and one.labels is not None
    }
    return replace(
        found,
        fid=apart["samples"],
        rfid=apart["decoded"],
        floor=apart["other"],
        agreement=right["samples"],
        judge=right["held"],
        num_images=len(labels),
    )


def _all(images: ImageSet) -> Tensor:
    """uint8 (n, channels, height, width)."""
    return torch.cat(list(images.read([range(images.num_images)])))


def _seen(images: Tensor) -> Tensor:
    """Three channels: without transparency, grey three times."""
    return images[:, :3] if images.shape[1] >= 3 else images.expand(-1, 3, -1, -1)


def _affordable(pipeline: Pipeline, plan: Plan) -> int:
    """Samples that SHARE of the time holds."""
    start = time.perf_counter()
    list(pipeline.stream([0] * 8, list(range(8))))
    return int(8 * SHARE * 60 * plan.minutes / (time.perf_counter() - start))


def _every_second(data: DataConfig, count: int) -> tuple[ImageSet, ImageSet]:
    """Two sets of `count` training images, spread evenly, that share none."""
    both = from_source(data, "train", 2 * count)
    assert both.labels is not None

    def half(first: int) -> ImageSet:
        def read(chunks: Sequence[range]) -> Iterator[Tensor]:
            wanted = [range(2 * c.start + first, 2 * c.stop, 2) for c in chunks]
            return both.read(wanted)

        labels = None if both.labels is None else both.labels[first::2]
        return both._replace(num_images=both.num_images // 2, labels=labels, read=read)

    return half(0), half(1)


def _page(
    plan: Plan, said: Sequence[str], folder: str, out: Path, seconds: Mapping[str, float]
) -> str:
    """index.html."""
    total = sum(seconds.values()) / 60
    newest = sorted((out / "vqgan" / "previews").glob("*.png"))[-1:]
    figures = [
        Figure("Samples", out / "grid.png", "Samples, a row for each class",
               f"Drawn by `maskgit sample {out}/maskgit --out grid.png`, none chosen."),
        Figure("Reconstructions", out / "reconstructions.png",
               "Held-out images above what the tokenizer makes of them",
               "The best that samples can be: what is lost here, no generator brings back."),
        Figure("Round by round", out / "strip.png", "Some samples as they fill, round by round"),
        Figure("Is mine normal?", out / "expected.png",
               "This training's curves beside those of trainings that went well",
               "Yours beside trainings of this repository, each by the share of its time."),
        Figure("All curves", out / "curves.png", "Losses and measures of each stage"),
        Figure("The data", out / "data.png", "Some images of each class"),
        *(Figure("The tokenizer's last preview", path, "As above") for path in newest),
    ]  # fmt: skip
    lists = {
        "What was chosen, and why": plan.says,
        "Time": [f"{name}: {value / 60:.1f} minutes" for name, value in seconds.items()]
        + [f"together {total:.1f} of {plan.minutes:g} minutes"],
    }
    links = {"what is in the images": out / "data.md", "the numbers": out / "numbers.json"}
    links |= {f"config of {stage}": out / f"{stage}.yaml" for stage in plan.shares}
    return page(f"{Path(folder).name}, by maskgit quickstart", out, said, figures, lists, links)
