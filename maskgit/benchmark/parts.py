"""PARTS: what is timed.

A part is a function `(plan) -> rows`; a row is one line of the table and of the JSON file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from maskgit.benchmark.against_peers import sampling, training, trial_of
from maskgit.benchmark.inputs import NUM_PICTURES, code_cache, keys, picture_folder, pictures
from maskgit.benchmark.peers import NUM_CODES, SIDES, Shape, Side, Way
from maskgit.benchmark.plan import OURS, Plan, Row, row_of, talk
from maskgit.benchmark.timing import Work, alternate, operations, ratios, spread_of
from maskgit.config.loading import load
from maskgit.config.sections import TokenizerConfig
from maskgit.data.codes import CodeDataset
from maskgit.data.datasets import ImageDataset
from maskgit.data.order import batches
from maskgit.model.transformer import FLASH_FROM
from maskgit.precision import best_precision, matmul_peak
from maskgit.processes import this_process
from vqgan.tokenizer import Tokenizer


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
    """Rows of a part without peers: the first work is what the others are compared with."""
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
    """Batches of 64: PNG files read and augmented by us and by torchvision; and cached codes."""
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
    """Steps of the second stage from a code cache, and from image files tokenised for each."""
    device = this_process().device
    with tempfile.TemporaryDirectory() as scratch:
        root = picture_folder(Path(scratch))
        for image_size, channels, cells, params, size in CACHED:
            if params not in plan.params:
                continue
            talk(f"cache: {image_size} px, {cells} cells, {params} M")
            shape = Shape(cells, params, size)
            way, depth, _ = trial_of(OURS, shape, "training")
            side = Side(SIDES[OURS], shape, way, device, depth)
            tokenizer = _tokenizer(image_size, channels)
            images = pictures(root, image_size, channels)
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
                    step(tokenizer.encode(batch.images(device)))

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
    """What a cell costs as grids grow, in training and sampling.

    Our training step at batch 1, fused and plain attention, quicker precision; and an operation,
    when 8 images are drawn in 8 rounds.
    """
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
    return row_of(
        "growth",
        shape,
        "sampling",
        **rest,
        **{"GFLOP/s": an_image * spread_of(speeds).median / 1e9},
    )


def machine(plan: Plan) -> Iterator[Row]:
    """The best of ten matrix products of 2048 x 2048, in both precisions: the peak."""
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
