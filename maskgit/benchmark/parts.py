"""PARTS: what is timed. A part is a function `(plan) -> rows`; a row is one line of the table and of the JSON file."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from maskgit.benchmark.peers import NUM_CLASSES, NUM_CODES, SIDES, WIDTHS, Shape, Side, Way
from maskgit.benchmark.timing import Work, alternate, matmul_peak, operations, peak_bytes, ratios, seconds_of, spread_of
from maskgit.codes import CodeDataset, write_shard
from maskgit.data import ImageDataset, Quarantine, batches
from maskgit.images import Transform, to_float
from maskgit.processes import this_process
from maskgit.sources import load_source
from maskgit.transformer import num_parameters
from vqgan.tokenizer import Tokenizer

Row = dict[str, Any]
OURS = "maskgit"


@dataclass
class Plan:
    """The sizes to run, and for how long: `seconds` a shape, and no shape that would take more than `longest`."""

    cells: tuple[int, ...] = (64, 256, 1024)
    params: tuple[int, ...] = (5, 25)
    batch: tuple[int, ...] = (1, 8, 32)
    rounds: tuple[int, ...] = (8, 12, 18)
    seconds: float = 8.0
    longest: float = 120.0
    memory: bool = True
    peaks: dict[str, float] = field(default_factory=dict)
    unit_seconds: dict[str, float] = field(default_factory=dict)  # of one cell and million parameters, per part

    def __post_init__(self) -> None:
        if wrong := next((c for c in self.cells if math.isqrt(c) ** 2 != c), None):
            raise ValueError(f"{wrong} cells are no square grid: 64, 256 or 1024, say")
        if wrong := next((p for p in self.params if p not in WIDTHS), None):
            raise ValueError(f"{wrong} million parameters: {' or '.join(map(str, WIDTHS))} can be measured")

    def shapes(self, *, sampling: bool) -> list[Shape]:
        """Small ones first, so that their speed tells what the large ones would cost."""
        rounds = self.rounds if sampling else (0,)
        shapes = [Shape(c, p, b, r) for c in self.cells for p in self.params for b in self.batch for r in rounds]
        return sorted(shapes, key=_size)


def _size(shape: Shape) -> float:
    return shape.cells * shape.params * shape.batch * max(1, shape.rounds)


def talk(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _sides_at(shape: Shape, part: str) -> tuple[dict[str, Side], list[Row]]:
    """Every side in its quickest way for this shape, and a row for each that cannot be built."""
    device = this_process().device
    sides, failed = {}, []
    for name, make in SIDES.items():
        try:
            sides[name] = _quickest(make, shape, part, device)
        except Exception as error:  # a peer may fail in any way; the table says how
            if name == OURS:
                raise
            failed.append({"side": name, "why not": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})
    return sides, [_row(part, shape, row["side"], **{"why not": row["why not"]}) for row in failed]


def _work(side: Side, part: str) -> Work:
    return side.train_step if part == "training" else side.sample_batch


def _quickest(make: Any, shape: Shape, part: str, device: torch.device) -> Side:
    """The side in the best of its ways, each tried once after a warm-up, with few rounds."""
    ways: tuple[Way, ...] = make.ways
    trial = shape._replace(rounds=min(shape.rounds, 3), batch=min(shape.batch, 8))
    times = {}
    for way in ways:
        work = _work(make(trial, way, device), part)
        work()
        times[way] = min(seconds_of(work) for _ in range(2))
    return make(shape, min(times, key=times.__getitem__), device)


def _row(part: str, shape: Shape, side: str, **rest: Any) -> Row:
    sampling = {"rounds": shape.rounds} if shape.rounds else {}
    sizes = {"cells": shape.cells, "million parameters": shape.params, "batch": shape.batch, **sampling}
    return {"part": part, **sizes, "side": side, **rest}


def _against_peers(plan: Plan, part: str, unit: str) -> Iterator[Row]:
    """Training or sampling, all sides at all shapes."""
    for shape in plan.shapes(sampling=part == "sampling"):
        predicted = plan.unit_seconds.get(part, 0.0) * _size(shape)
        if predicted > plan.longest:
            yield _row(part, shape, "all", **{"why not": f"left out: it would take {predicted:.0f} s (see --longest)"})
            continue
        talk(f"{part}: {shape.cells} cells, {shape.params} M, batch {shape.batch}, rounds {shape.rounds or '-'}")
        begun = time.perf_counter()
        sides, failed = _sides_at(shape, part)
        yield from failed
        found = alternate({name: _work(side, part) for name, side in sides.items()}, seconds=plan.seconds, least=2)
        against = ratios(found, OURS)
        amount = shape.batch * (shape.cells if part == "training" else 1)
        for name, side in sides.items():
            speed = spread_of([amount / seconds for seconds in found[name]])
            rest: Row = {unit: speed, "time over ours": against[name], "way": str(side.way)}
            rest["parameters"] = num_parameters(side.module)
            if part == "training":
                plain = SIDES[name](shape._replace(batch=1), side.way._replace(flash=False), this_process().device)
                flops = operations(plain.train_step) * shape.batch
                peak = plan.peaks["bf16" if side.way.bf16 else "fp32"]
                rest["share of peak"] = flops / min(found[name]) / peak
            if plan.memory:
                rest["peak memory MiB"] = peak_bytes(_work(side, part)) / 2**20
            yield _row(part, shape, name, **rest)
        plan.unit_seconds[part] = max(0.1 * plan.unit_seconds.get(part, 0.0), _seconds_per_unit(begun, shape))


def _seconds_per_unit(begun: float, shape: Shape) -> float:
    return (time.perf_counter() - begun) / _size(shape)


def training(plan: Plan) -> Iterator[Row]:
    """One optimiser step: forward, backward, clip, AdamW."""
    return _against_peers(plan, "training", "tokens/s")


def sampling(plan: Plan) -> Iterator[Row]:
    """Whole grids, without guidance and without decoding."""
    return _against_peers(plan, "sampling", "images/s")


def _tokenizer(image_size: int, channels: int) -> Tokenizer:
    torch.manual_seed(0)
    widths = (48, 96) if image_size < 64 else (64, 128, 128)
    quantizer = {"name": "fsq", "levels": [8, 8, 8]}
    model = Tokenizer(
        image_size=image_size, channels=channels, widths=widths, num_blocks=1, patch_size=2, quantizer=quantizer
    )
    return model.to(this_process().device).eval()


def _compare(
    part: str, sizes: Mapping[str, Any], works: Mapping[str, Work], amount: int, unit: str, plan: Plan
) -> Iterator[Row]:
    """Rows of a part without peers at equal size: the first work is what the others are compared with."""
    found = alternate(works, seconds=plan.seconds)
    against = ratios(found, next(iter(works)))
    for name, times in found.items():
        speed = spread_of([amount / seconds for seconds in times])
        yield {"part": part, **sizes, "side": name, unit: speed, "time over the first": against[name]}


def tokenising(plan: Plan) -> Iterator[Row]:
    """Images to codes and back, in both precisions."""
    device = this_process().device
    for image_size, channels in ((28, 1), (64, 3)):
        model = _tokenizer(image_size, channels)
        for batch in plan.batch:
            talk(f"tokenising: {image_size} px, batch {batch}")
            images = torch.rand(batch, channels, image_size, image_size, device=device) * 2 - 1
            codes = model.encode(images)
            works: dict[str, Work] = {
                "encode, fp32": partial(model.encode, images),
                "encode, bf16": partial(_in_bf16, partial(model.encode, images)),
                "decode, fp32": partial(model.decode, codes),
            }
            yield from _compare("tokenising", {"pixels": image_size, "batch": batch}, works, batch, "images/s", plan)


def _in_bf16(work: Work) -> object:
    with torch.autocast(this_process().device.type, torch.bfloat16):
        return work()


def input_pipeline(plan: Plan) -> Iterator[Row]:
    """Batches of 64: PNG files decoded, resized, cropped, flipped, by us and by torchvision; and cached codes."""
    from torchvision import datasets, transforms

    num_images, rng = 512, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(num_images):
            folder = Path(scratch) / "train" / str(number % 2)
            folder.mkdir(parents=True, exist_ok=True)
            smooth = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).resize((160, 128))
            smooth.save(folder / f"{number}.png")
        source = load_source({"name": "folder", "root": scratch}, "train")
        ours = ImageDataset(source, Transform(64, 3, "random", 1.25, True), augment=True, quarantine=Quarantine())
        order = [[(i % len(source.labels), 0) for i in range(s, s + 64)] for s in range(0, num_images, 64)]
        steps = [
            transforms.Resize(72, transforms.InterpolationMode.LANCZOS),
            transforms.RandomCrop(64),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
        folder = datasets.ImageFolder(str(Path(scratch) / "train"), transforms.Compose(steps))
        theirs = torch.utils.data.DataLoader(folder, batch_size=64, shuffle=True)
        cache = _code_cache(Path(scratch) / "codes", 8192)
        keys = [[(i, 0) for i in range(s, s + 64)] for s in range(0, num_images, 64)]
        works: dict[str, Work] = {
            "images from files": lambda: [None for _ in batches(ours, order)],
            "torchvision ImageFolder": lambda: [None for _ in theirs],
            "cached codes": lambda: [None for _ in batches(cache, keys)],
        }
        talk("input: 512 PNG files of 160x128, and as many cached grids")
        yield from _compare("input", {"pixels": 64, "batch": 64}, works, num_images, "images/s", plan)


def _code_cache(folder: Path, rows: int, side: int = 16) -> CodeDataset:
    """A cache of random codes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, NUM_CODES, (rows, 2, side, side))
    write_shard(folder / "train-00000.safetensors", codes, rng.integers(0, NUM_CLASSES, rows), NUM_CODES)
    manifest = {"format": "maskgit-codes-1", "splits": {"train": {"shards": [rows]}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return CodeDataset(folder, "train", augment=True)


def cache(plan: Plan) -> Iterator[Row]:
    """A training step of the second stage on cached codes, and with the encoder run on every batch."""
    device = this_process().device
    for image_size, channels, cells in ((28, 1, 49), (64, 3, 64)):
        shape = Shape(cells, 5, 32)
        talk(f"cache: {image_size} px, {cells} cells")
        tokenizer = _tokenizer(image_size, channels)
        pixels = torch.randint(256, (32, channels, image_size, image_size), dtype=torch.uint8, device=device)
        side = SIDES[OURS](shape, Way(bf16=True, flash=False), device)

        def on_the_fly(side: Side = side, tokenizer: Tokenizer = tokenizer, pixels: torch.Tensor = pixels) -> None:
            side.codes = tokenizer.encode(to_float(pixels))
            side.train_step()

        works: dict[str, Work] = {"cached codes": side.train_step, "tokenised on the fly": on_the_fly}
        sizes = {"pixels": image_size, "cells": cells, "million parameters": 5, "batch": 32}
        yield from _compare("cache", sizes, works, 32, "images/s", plan)


def growth(plan: Plan) -> Iterator[Row]:
    """What a cell costs as grids grow: our training step at batch 1, fused and plain attention, bf16."""
    device = this_process().device
    for cells in (64, 256, 1024):
        if cells > max(plan.cells):
            continue
        shape = Shape(cells, 5, 1)
        talk(f"growth: {cells} cells")
        ways = {"fused": Way(bf16=True, flash=True), "plain": Way(bf16=True, flash=False)}
        works = {f"{name} attention": SIDES[OURS](shape, way, device).train_step for name, way in ways.items()}
        yield from _compare(
            "growth", {"cells": cells, "million parameters": 5, "batch": 1}, works, cells, "tokens/s", plan
        )


def machine(plan: Plan) -> Iterator[Row]:
    """The best of ten matrix products of 2048 x 2048, in both precisions: the peak that shares are of."""
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        plan.peaks[name] = matmul_peak(this_process().device, dtype)
        yield {"part": "machine", "side": f"matrix product, {name}", "GFLOP/s": plan.peaks[name] / 1e9}


PARTS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "training": training,
    "sampling": sampling,
    "tokenising": tokenising,
    "input": input_pipeline,
    "cache": cache,
    "growth": growth,
}
