"""Sets of images to be measured: of a data source, a folder, an ADM .npz file, a pipeline.

Pixels are uint8, as in a PNG file, and only a batch of them is ever in memory.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskgit.config.sections import DataConfig
from maskgit.data.alpha import WITH_ALPHA, laid, premultiplied
from maskgit.data.datasets import ImageDataset, Quarantine, transform_of
from maskgit.data.npz import npz_arrays, open_array, reading_npz
from maskgit.data.order import batches, chunks_of, spread
from maskgit.data.pixels import open_image, to_float, to_pixels, to_uint8
from maskgit.data.sources import Skipped, Tree, check_labels, load_source
from maskgit.pipeline.drawing import label_in
from maskgit.pipeline.pipeline import Pipeline
from maskgit.processes import gather_rows, share_out
from maskgit.randomness import mixed_seed
from vqgan.grids import GridTokenizer


class ImageSet(NamedTuple):
    """Images by number, 0 .. num_images - 1."""

    num_images: int
    labels: np.ndarray | None  # (num_images,) int64, where they are known
    read: Callable[[Sequence[range]], Iterator[Tensor]]  # numbers -> uint8 (n, c, h, w) for each
    about: dict[str, Any]  # JSON values: what a table says of it
    stamp: str = ""  # changes when its files do
    background: str = "white"  # what networks see it on, if it has alpha

    def counted(self) -> dict[str, Any]:
        """What a table says of it, with how many they are."""
        return self.about | {"count": self.num_images}

    def shape(self) -> tuple[int, ...]:
        """(channels, height, width) of its first image."""
        return tuple(next(self.read([range(1)])).shape[1:])


class Share(NamedTuple):
    """The images of one process in one turn."""

    numbers: range
    pixels: Tensor  # uint8 (n, channels, height, width)


def shared_out(images: ImageSet, batch_size: int) -> Iterator[Share | None]:
    """The set in chunks of `batch_size`, this process's in every turn, none where too few are left.

    As in `share_out`, all processes make as many turns, and the main one has a share in each.
    """
    mine = [chunk for _, chunk in share_out(chunks_of(images.num_images, batch_size))]
    pixels = images.read([chunk for chunk in mine if chunk is not None])
    for chunk in mine:
        yield None if chunk is None else Share(chunk, next(pixels))


BLOCK = 20
"""Neighbouring images that are chosen together where not all are."""


def some_of(images: ImageSet, most: int, batch_size: int) -> Tensor:
    """At most so many images, uint8 (n, channels, height, width), read by all processes."""
    chunks = chosen_blocks(images.num_images, most, batch_size)
    mine = [chunk for _, chunk in share_out(chunks)]
    pixels = images.read([chunk for chunk in mine if chunk is not None])
    none = torch.empty(0, 1, dtype=torch.uint8)
    rows = [gather_rows(none if chunk is None else next(pixels).flatten(1)).cpu() for chunk in mine]
    return torch.cat(rows).unflatten(1, images.shape())


def chosen_blocks(count: int, most: int, batch_size: int) -> list[range]:
    """All numbers in chunks, or `most` of them in blocks: one anywhere in each stretch of the set.

    So labels are as in the whole, whether they are sorted or come in turn.
    """
    if most >= count:
        return chunks_of(count, batch_size)
    whole, wanted = chunks_of(count, BLOCK), math.ceil(most / BLOCK)
    num = max(wanted, count // BLOCK)  # the last one may be too short to be chosen
    draws = np.random.default_rng(mixed_seed("blocks", count, most))
    edges = [k * num // wanted for k in range(wanted + 1)]
    blocks = [whole[draws.integers(*stretch)] for stretch in pairwise(edges)]
    return [*blocks[:-1], blocks[-1][: most - BLOCK * (wanted - 1)]]


def fingerprint(images: ImageSet) -> str:
    """A hash of what the set says of itself, its files' sizes and dates, its labels, and pixels.

    Of 64 images, spread evenly.
    """
    made_of = (sorted(images.about.items()), images.stamp, images.background)
    digest = hashlib.sha256(repr(made_of).encode())
    if images.labels is not None:
        digest.update(images.labels.tobytes())
    for batch in images.read([range(i, i + 1) for i in spread(images.num_images, 64)]):
        digest.update(batch.numpy().tobytes())
    return digest.hexdigest()


def _stamp(paths: Sequence[Path]) -> str:
    """Names, sizes and dates of files, hashed."""
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def from_source(data: DataConfig, split: str, count: int | None = None) -> ImageSet:
    """A split of a data source, cut as for training but never augmented.

    count: images, spread evenly over it; all by default.
    """
    source = load_source(data.source, split)
    transform = transform_of(data)
    dataset = ImageDataset(source, transform, quarantine=Quarantine())
    chosen = spread(len(dataset), count or len(dataset))

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        order = [[(chosen[i], 0) for i in chunk] for chunk in chunks]
        return (batch.data for batch in batches(dataset, order, workers=data.workers))

    name = data.source if isinstance(data.source, str) else " ".join(map(str, data.source.values()))
    size = f"{data.image_size}x{data.image_size}x{data.channels}"
    how = data.resample.capitalize()
    cut = f"shorter side resized ({how}), centre cropped"
    if data.resize == "contain":
        cut = f"longer side resized ({how})"
    if data.resize == "contain" or data.channels == WITH_ALPHA:
        cut += f", on {data.background}"
    about = {"set": f"{name}/{split}", "images": f"{size}, {cut}"}
    labels = source.labels[chosen]
    return ImageSet(len(chosen), labels, read, about, background=data.background)


def from_folder(
    folder: str | Path, *, channels: int | None = None, class_names: Sequence[str] = ()
) -> ImageSet:
    """Every picture under a folder, by name; all of one size, as grey, RGB or (4 channels) RGBA.

    channels: by default those of the first one without its alpha. Labels come from the names that
    `maskgit sample` gives, or else from subfolders named like the classes.
    """
    folder = Path(folder)
    skipped = Skipped()
    paths = sorted(Tree(folder, skipped).images(folder)) if folder.is_dir() else []
    if not paths:
        left_out = f"; left out: {skipped}" if str(skipped) else ""
        raise FileNotFoundError(f"no images in {folder}{left_out}")
    first = open_image(paths[0])
    size, wanted = first.size, channels or (1 if first.mode in ("1", "L", "I;16", "I", "F") else 3)

    def one(path: Path) -> Tensor:
        image = open_image(path)
        if image.size != size:
            raise ValueError(
                f"{path} is {image.width}x{image.height}, {paths[0]} is {size[0]}x{size[1]}"
            )
        return to_pixels(image, wanted)

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        return (torch.stack([one(paths[i]) for i in chunk]) for chunk in chunks)

    labels = [_label_of(path, class_names) for path in paths]
    known = None if None in labels else np.array(labels, dtype=np.int64)
    about = {"set": str(folder), "images": f"{size[1]}x{size[0]}x{wanted}"}
    return ImageSet(len(paths), known, read, about, _stamp(paths))


def _label_of(path: Path, class_names: Sequence[str]) -> int | None:
    if (label := label_in(path, class_names)) is not None:
        return label
    return class_names.index(path.parent.name) if path.parent.name in class_names else None


def from_files(
    path: str | Path, *, channels: int | None = None, class_names: Sequence[str] = ()
) -> ImageSet:
    """An .npz file or a folder; class_names: of a folder's labels."""
    if str(path).endswith(".npz"):
        return from_npz(path, channels=channels, class_names=class_names)
    return from_folder(path, channels=channels, class_names=class_names)


def from_npz(
    path: str | Path, *, channels: int | None = None, class_names: Sequence[str] = ()
) -> ImageSet:
    """ADM's sample file (github.com/openai/guided-diffusion).

    arr_0: uint8 (n, height, width, 3), or RGBA; arr_1: labels, if there are any. It is read a batch
    at a time. (n, height, width) is taken as grey; channels=1 makes grey of RGB, channels=4 RGBA.
    """
    shapes = npz_arrays(path)
    shape = shapes.get("arr_0", ())
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"{path}: arr_0 should be (n, height, width, 3) images, it is {shape or 'missing'}"
        )
    if not all(shape):
        raise ValueError(f"{path}: arr_0 holds no images, it is {shape}")
    found = 1 if len(shape) == 3 else shape[-1]
    wanted = channels or min(found, 3)
    if found == 1 < wanted:
        raise ValueError(f"{path} holds grey images, but {wanted} channels are wanted")
    labels = _labels_of(Path(path), shape[0], len(class_names)) if "arr_1" in shapes else None
    row = int(np.prod(shape[1:]))

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        with reading_npz(path), zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
            _, dtype, start = open_array(file, str(path))
            if dtype != np.uint8:
                raise ValueError(f"{path}: arr_0 should be uint8, it is {dtype}")
            for chunk in chunks:
                file.seek(start + chunk.start * row)
                data = file.read(len(chunk) * row)
                if len(data) != len(chunk) * row:
                    raise ValueError(f"{path} is cut short")
                pixels = np.frombuffer(data, np.uint8).reshape(len(chunk), *shape[1:3], found)
                yield _with_channels(pixels, wanted)

    about = {"set": str(path), "images": f"{shape[1]}x{shape[2]}x{wanted}"}
    return ImageSet(shape[0], labels, read, about, _stamp([Path(path)]))


def _labels_of(path: Path, count: int, num_classes: int) -> np.ndarray:
    """arr_1 of a sample file; ValueError unless it is a class's number for each image."""
    with reading_npz(path), np.load(path, allow_pickle=False) as arrays:
        labels = arrays["arr_1"]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: arr_1 should be {count} labels, it is {labels.dtype} {labels.shape}"
        )
    labels = labels.astype(np.int64)
    check_labels(labels, num_classes or int(labels.max(initial=0)) + 1, f"{path}: arr_1")
    return labels


def _with_channels(pixels: np.ndarray, wanted: int) -> Tensor:
    """uint8 (n, h, w, 1, 3 or 4), as files hold them -> (n, wanted, h, w), as images are."""
    found = pixels.shape[-1]
    if found == 3 and wanted == WITH_ALPHA:
        pixels = np.concatenate((pixels, np.full_like(pixels[..., :1], 255)), axis=-1)
    pixels = premultiplied(pixels) if found == WITH_ALPHA else pixels.copy()
    images = torch.from_numpy(pixels).movedim(-1, 1)
    images = images if wanted == WITH_ALPHA else laid(images, "white")
    return images if wanted == images.shape[1] else _to_grey(images)


def _to_grey(images: Tensor) -> Tensor:
    """uint8 (n, 3, h, w) -> (n, 1, h, w), with Pillow's weights."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("nchw,c->nhw", images.float(), weights).round().to(torch.uint8)[:, None]


def from_pipeline(
    pipeline: Pipeline, count: int, *, seed: int = 0, options: Mapping[str, Any] | None = None
) -> ImageSet:
    """`count` samples, their labels 0, 1, 2, ... over and over, their seeds running on from `seed`.

    options: as in `Pipeline.stream`, but `negative` by its class name.
    """
    options = dict(options or {})
    away = {key: options.pop(key) for key in ("negative",) if key in options}
    found = pipeline.settings(**options)
    if away:
        found.check_negative()
    settings = found._asdict() | away | {"precision": pipeline.precision}
    options |= {key: pipeline.label(name) for key, name in away.items()}
    labels = np.arange(count) % len(pipeline.class_names)

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        for chunk in chunks:
            seeds = [seed + number for number in chunk]
            images = pipeline.stream(
                labels[chunk].tolist(), seeds, batch_size=len(chunk), **options
            )
            yield to_uint8(torch.stack(list(images))).cpu()

    return ImageSet(
        count,
        labels,
        read,
        {"set": "samples", "seeds": f"{seed} to {seed + count - 1}", **settings},
        background=pipeline.data.get("background", "white"),
    )


def reconstructions(tokenizer: GridTokenizer, images: ImageSet) -> ImageSet:
    """The same images through encode and decode."""
    device = next(tokenizer.parameters()).device

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        for batch in images.read(chunks):
            yield to_uint8(tokenizer.decode(tokenizer.encode(to_float(batch.to(device))))).cpu()

    return ImageSet(
        images.num_images,
        images.labels,
        read,
        images.about | {"set": f"reconstructions of {images.about['set']}"},
        background=images.background,
    )
