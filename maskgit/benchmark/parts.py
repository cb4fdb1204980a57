"""PARTS: what is timed. A part is a function `(plan) -> rows`; a row is one line of the table and
of the JSON file."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from maskgit.benchmark.inputs import NUM_PICTURES, code_cache, keys, picture_folder, pictures
from maskgit.benchmark.peers import NUM_CODES, SIDES, WIDTHS, Shape, Side, Way
from maskgit.benchmark.timing import Work, alternate, operations, peak_bytes, ratios, spread_of
from maskgit.config.loading import load
from maskgit.config.sections import TokenizerConfig
from maskgit.data.codes import CodeDataset
from maskgit.data.datasets import ImageDataset
from maskgit.data.order import batches
from maskgit.data.pixels import to_float
from maskgit.machine import seconds_of
from maskgit.model.backbones import num_parameters
from maskgit.model.transformer import FLASH_FROM
from maskgit.precision import best_precision, matmul_peak
from maskgit.processes import this_process
from vqgan.tokenizer import Tokenizer

Row = dict[str, Any]
OURS = "maskgit"


@dataclass
class Plan:
    """The sizes to run, and for how long: turns go on for `seconds` at a shape, and a part ends
    after `longest`."""

    cells: tuple[int, ...] = (64, 256, 1024)
    params: tuple[int, ...] = (5, 25)
    batch: tuple[int, ...] = (1, 8, 32)
    rounds: tuple[int, ...] = (8, 12, 18)
    seconds: float = 8.0
    longest: float = 240.0
    memory: bool = True
    peaks: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := next((c for c in self.cells if math.isqrt(c) ** 2 != c), None):
            raise ValueError(f"{wrong} cells are no square grid: 64, 256 or 1024, say")
        if wrong := next((p for p in self.params if p not in WIDTHS), None):
            raise ValueError(
                f"{wrong} million parameters: {' or '.join(map(str, WIDTHS))} can be measured"
            )

    def shapes(self, *, sampling: bool) -> list[Shape]:
        """Small ones first, so that their speed tells what the large ones would cost."""
        rounds = self.rounds if sampling else (0,)
        shapes = [
            Shape(c, p, b, r)
            for c in self.cells
            for p in self.params
            for b in self.batch
            for r in rounds
        ]
        return sorted(shapes, key=_size)


def _size(shape: Shape) -> float:
    return shape.cells * shape.params * shape.batch * max(1, shape.rounds)


def talk(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _work(side: Side, part: str) -> Work:
    return side.train_step if part == "training" else side.sample_batch


TRIAL = 10_000
"""Cells times million parameters of a trial: few, where the model is large."""


def _trial(name: str, shape: Shape, part: str) -> tuple[Way, int, float]:
    """The quickest way of a side, its depth, and the seconds that one turn at the whole shape
    should take."""
    device, entry = this_process().device, SIDES[name]
    small = shape._replace(
        batch=min(shape.batch, max(1, TRIAL // (shape.cells * shape.params))),
        rounds=min(shape.rounds, 3),
    )
    times: dict[Way, float] = {}
    depth = None
    for way in entry.ways_on(device):
        side = Side(entry, small, way, device, depth)
        depth = side.depth
        _work(side, part)()
        times[way] = min(seconds_of(_work(side, part)) for _ in range(2))
    assert depth is not None
    best = min(times, key=times.__getitem__)
    return best, depth, times[best] * _size(shape) / _size(small)


def _row(part: str, shape: Shape, side: str, **rest: Any) -> Row:
    sampling = {"rounds": shape.rounds} if shape.rounds else {}
    sizes = {
        "cells": shape.cells,
        "million parameters": shape.params,
        "batch": shape.batch,
        **sampling,
    }
    return {"part": part, **sizes, "side": side, **rest}


def _sides_at(shape: Shape, part: str, left: float) -> tuple[dict[str, Side], list[Row]]:
    """Every side in its quickest way, run once, and a row for each that fails, or for all if `left`
    seconds are few."""
    trials: dict[str, tuple[Way, int, float]] = {}
    sides: dict[str, Side] = {}
    failed = []
    for name in SIDES:
        try:
            trials[name] = _trial(name, shape, part)
        except Exception as error:  # a peer may fail in any way; the table says how
            failed.append(_row(part, shape, name, **{"why not": _reason(error)}))
            if name == OURS:
                raise
    turn = sum(seconds for _, _, seconds in trials.values())
    if TURNS * turn > left:
        return {}, [
            _row(
                part,
                shape,
                "all",
                **{"why not": f"left out: about {TURNS * turn:.0f} s (see --longest)"},
            )
        ]
    for name, (way, depth, _) in trials.items():
        try:
            side = Side(SIDES[name], shape, way, this_process().device, depth)
            _work(side, part)()
            sides[name] = side
        except Exception as error:
            failed.append(_row(part, shape, name, **{"why not": _reason(error)}))
            if name == OURS:
                raise
    return sides, failed


TURNS = 6
"""Runs of a side at a shape at least: first, warm-up, two turns, operations, memory."""


def _share_of_peak(name: str, side: Side, seconds: float, plan: Plan) -> float:
    """Of the machine's matrix products, counted at a batch of 8: the head's share depends on the
    times drawn."""
    setting = side.setting
    shape = setting.shape._replace(batch=8)
    plain = Side(SIDES[name], shape, side.way._replace(flash=False), setting.device, side.depth)
    flops = operations(plain.train_step) / 8 * setting.shape.batch
    return flops / seconds / plan.peaks["bf16" if side.way.bf16 else "fp32"]


def _against_peers(plan: Plan, part: str, unit: str) -> Iterator[Row]:
    """Training or sampling, all sides at all shapes."""
    end = time.perf_counter() + plan.longest
    too_large = math.inf
    for shape in plan.shapes(sampling=part == "sampling"):
        left = end - time.perf_counter()
        if _size(shape) >= too_large or left <= 0:
            yield _row(
                part,
                shape,
                "all",
                **{"why not": "left out: the time of this part is over (see --longest)"},
            )
            continue
        talk(
            f"{part}: {shape.cells} cells, {shape.params} M, batch {shape.batch}, "
            f"rounds {shape.rounds or '-'}"
        )
        sides, failed = _sides_at(shape, part, left)
        yield from failed
        if not sides:
            too_large = _size(shape)
            continue
        works = {name: _work(side, part) for name, side in sides.items()}
        found = alternate(works, seconds=min(plan.seconds, left), least=2)
        against = ratios(found, OURS)
        amount = shape.batch * (shape.cells if part == "training" else 1)
        for name, side in sides.items():
            speed = spread_of([amount / seconds for seconds in found[name]])
            rest: Row = {unit: speed, "time over ours": against[name], "way": str(side.way)}
            rest["parameters"] = num_parameters(side.module)
            if part == "training":
                rest["share of peak"] = _share_of_peak(
                    name, side, spread_of(found[name]).median, plan
                )
            if plan.memory:
                rest["peak memory MiB"] = peak_bytes(works[name]) / 2**20
            yield _row(part, shape, name, **rest)


def training(plan: Plan) -> Iterator[Row]:
    """One optimiser step: forward, backward, clip, AdamW."""
    return _against_peers(plan, "training", "tokens/s")


def sampling(plan: Plan) -> Iterator[Row]:
    """Whole grids, without guidance and without decoding."""
    return _against_peers(plan, "sampling", "images/s")


def _tokenizer(image_size: int, channels: int) -> Tokenizer:
    """That of Fashion-MNIST at 28 px, one of its kind at 64, ImageNet's at 256."""
    torch.manual_seed(0)
    if image_size == 256:
        config = cast(TokenizerConfig, load("imagenet256/vqgan"))
        large = Tokenizer(image_size=256, channels=channels, **config.model.model_dump())
        return large.to(this_process().device).eval()
    widths = (48, 96) if image_size < 64 else (64, 128, 128)
    quantizer = {"name": "fsq", "levels": [8, 8, 8]}
    model = Tokenizer(
        image_size=image_size,
        channels=channels,
        widths=widths,
        num_blocks=1,
        patch_size=2,
        quantizer=quantizer,
    )
    return model.to(this_process().device).eval()


def _compare(
    part: str,
    sizes: Mapping[str, Any],
    works: Mapping[str, Work],
    amount: int,
    unit: str,
    plan: Plan,
) -> Iterator[Row]:
    """Rows of a part without peers at equal size: the first work is what the others are compared
    with."""
    found = alternate(works, seconds=plan.seconds)
    against = ratios(found, next(iter(works)))
    for name, times in found.items():
        speed = spread_of([amount / seconds for seconds in times])
        yield {
            "part": part,
            **sizes,
            "side": name,
            unit: speed,
            "time over the first": against[name],
        }


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
            yield from _compare(
                "tokenising", {"pixels": image_size, "batch": batch}, works, batch, "images/s", plan
            )


def _in_bf16(work: Work) -> object:
    with torch.autocast(this_process().device.type, torch.bfloat16):
        return work()


def input_pipeline(plan: Plan) -> Iterator[Row]:
    """Batches of 64: PNG files decoded, resized, cropped, flipped, by us and by torchvision; and
    cached codes."""
    from torchvision import datasets, transforms

    with tempfile.TemporaryDirectory() as scratch:
        root = picture_folder(Path(scratch))
        ours = pictures(root, 64, 3)
        steps = [
            transforms.Resize(72, transforms.InterpolationMode.LANCZOS),
            transforms.RandomCrop(64),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
        folder = datasets.ImageFolder(str(root / "train"), transforms.Compose(steps))
        theirs = torch.utils.data.DataLoader(folder, batch_size=64, shuffle=True)
        codes = code_cache(root / "codes", 16, NUM_CODES)
        works: dict[str, Work] = {
            "images from files": lambda: list(batches(ours, keys(len(ours), 64, NUM_PICTURES))),
            "torchvision ImageFolder": lambda: list(theirs),
            "cached codes": lambda: list(batches(codes, keys(len(codes), 64, NUM_PICTURES))),
        }
        talk(f"input: {NUM_PICTURES} PNG files of 160x128, and as many cached grids of 16x16")
        yield from _compare(
            "input", {"pixels": 64, "batch": 64}, works, NUM_PICTURES, "images/s", plan
        )


CACHED = ((28, 1, 49, 5, 32), (64, 3, 64, 5, 32), (256, 3, 256, 25, 2))
"""Pixels, channels, cells, million parameters of the generator, batch size."""


def cache(plan: Plan) -> Iterator[Row]:
    """Steps of the second stage from a code cache, and from image files that are read and tokenised
    for each."""
    device = this_process().device
    with tempfile.TemporaryDirectory() as scratch:
        root = picture_folder(Path(scratch))
        for image_size, channels, cells, params, size in CACHED:
            if params not in plan.params:
                continue
            talk(f"cache: {image_size} px, {cells} cells, {params} M")
            shape = Shape(cells, params, size)
            way, depth, _ = _trial(OURS, shape, "training")
            side = Side(SIDES[OURS], shape, way, device, depth)
            tokenizer, images = (
                _tokenizer(image_size, channels),
                pictures(root, image_size, channels),
            )
            codes = code_cache(root / f"codes{cells}", shape.side, tokenizer.codebook_size)

            def step(grids: torch.Tensor, side: Side = side) -> None:
                side.setting.codes = grids.to(device)
                side.train_step()

            def from_cache(step: Any = step, codes: CodeDataset = codes, size: int = size) -> None:
                for batch in batches(codes, keys(len(codes), size, 2 * size)):
                    step(batch.data)

            def from_files(
                step: Any = step,
                images: ImageDataset = images,
                tokenizer: Tokenizer = tokenizer,
                size: int = size,
            ) -> None:
                for batch in batches(images, keys(len(images), size, 2 * size)):
                    step(tokenizer.encode(to_float(batch.data.to(device))))

            def read(codes: CodeDataset = codes, size: int = size) -> None:
                for batch in batches(codes, keys(len(codes), size, 2 * size)):
                    batch.data.to(device)

            works: dict[str, Work] = {
                "cached codes": from_cache,
                "files, tokenised on the fly": from_files,
                "cached codes, only read": read,
            }
            sizes = {
                "pixels": image_size,
                "cells": cells,
                "million parameters": params,
                "batch": size,
                "way": str(way),
            }
            yield from _compare("cache", sizes, works, 2 * size, "images/s", plan)


def growth(plan: Plan) -> Iterator[Row]:
    """What a cell costs as grids grow: our training step at batch 1, fused and plain attention,
    quicker precision; and an operation, when 8 images are drawn in 8 rounds."""
    device, bf16 = this_process().device, best_precision() == "bf16"
    for cells in (64, 256, 1024):
        if cells > max(plan.cells):
            continue
        shape = Shape(cells, 5, 1)
        talk(f"growth: {cells} cells")
        ways = {"fused": Way(bf16=bf16, flash=True), "plain": Way(bf16=bf16, flash=False)}
        sides = {name: Side(SIDES[OURS], shape, way, device) for name, way in ways.items()}
        works = {f"{name} attention": side.train_step for name, side in sides.items()}
        yield from _compare(
            "growth",
            {"cells": cells, "million parameters": 5, "batch": 1},
            works,
            cells,
            "tokens/s",
            plan,
        )
        yield _drawing(Shape(cells, 5, 8, 8), bf16, plan)


def _drawing(shape: Shape, bf16: bool, plan: Plan) -> Row:
    """Our speed in sampling, in images and in operations a second."""
    flash = shape.cells >= FLASH_FROM
    side, plain = (
        Side(SIDES[OURS], shape, Way(bf16, way), this_process().device) for way in (flash, False)
    )
    speeds = [
        shape.batch / seconds
        for seconds in alternate({OURS: side.sample_batch}, seconds=plan.seconds)[OURS]
    ]
    an_image = operations(plain.sample_batch) / shape.batch
    rest: Row = {"images/s": spread_of(speeds), "GFLOP an image": an_image / 1e9}
    return _row(
        "growth",
        shape,
        "sampling",
        **rest,
        **{"GFLOP/s": an_image * spread_of(speeds).median / 1e9},
    )


def machine(plan: Plan) -> Iterator[Row]:
    """The best of ten matrix products of 2048 x 2048, in both precisions: the peak that shares are
    of."""
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        plan.peaks[name] = matmul_peak(this_process().device, dtype)
        yield {
            "part": "machine",
            "side": f"matrix product, {name}",
            "GFLOP/s": plan.peaks[name] / 1e9,
        }


PARTS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "training": training,
    "sampling": sampling,
    "tokenising": tokenising,
    "input": input_pipeline,
    "cache": cache,
    "growth": growth,
}
