"""Sets of images to be measured: a data source, a folder, an ADM .npz file, samples of a pipeline, reconstructions.

Pixels are uint8, as in a PNG file, and only a batch of them is ever in memory.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from maskgit.config import DataConfig
from maskgit.data import ImageDataset, Quarantine
from maskgit.images import Transform, open_image, to_float, to_pixels, to_uint8
from maskgit.order import batches, spread
from maskgit.pipeline import Pipeline
from maskgit.sources import load_source
from vqgan.files import replacing
from vqgan.tokenizer import Tokenizer

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
SAMPLE_NAME = re.compile(r"(\d{3,})_.+_\d{6,}")  # what `maskgit sample --out folder` writes


class ImageSet(NamedTuple):
    """Images by number, 0 .. num_images - 1."""

    num_images: int
    labels: np.ndarray | None  # (num_images,) int64, where they are known
    read: Callable[[Sequence[range]], Iterator[Tensor]]  # chunks of numbers -> one uint8 (n, c, h, w) for each
    about: dict[str, Any]  # JSON values: what a table says of it
    stamp: str = ""  # changes when its files do


def chunks_of(count: int, size: int) -> list[range]:
    """0 .. count - 1 in ranges of `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def fingerprint(images: ImageSet) -> str:
    """A hash of what the set says of itself, its files' sizes and dates, its labels, and the pixels of 64 images."""
    digest = hashlib.sha256(repr((sorted(images.about.items()), images.stamp)).encode())
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
    """A split of a data source, cut as for training but never augmented; `count` images spread evenly over it."""
    source = load_source(data.source, split)
    dataset = ImageDataset(source, Transform(data.image_size, data.channels), quarantine=Quarantine())
    chosen = spread(len(dataset), count or len(dataset))

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        order = [[(chosen[i], 0) for i in chunk] for chunk in chunks]
        return (batch.data for batch in batches(dataset, order, workers=data.workers))

    name = data.source if isinstance(data.source, str) else " ".join(map(str, data.source.values()))
    size = f"{data.image_size}x{data.image_size}x{data.channels}, shorter side resized (Lanczos), centre cropped"
    return ImageSet(len(chosen), source.labels[chosen], read, {"set": f"{name}/{split}", "images": size})


def from_folder(folder: str | Path, *, channels: int | None = None, class_names: Sequence[str] = ()) -> ImageSet:
    """Every picture under a folder, by name; all of one size, as grey or RGB (by default, what the first one is).

    Labels come from the names that `maskgit sample` gives, or else from subfolders named like the classes.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no images in {folder} ({', '.join(sorted(SUFFIXES))})")
    first = open_image(paths[0])
    size, wanted = first.size, channels or (1 if first.mode in ("1", "L", "I;16", "I", "F") else 3)

    def one(path: Path) -> Tensor:
        image = open_image(path)
        if image.size != size:
            raise ValueError(f"{path} is {image.width}x{image.height}, {paths[0]} is {size[0]}x{size[1]}")
        return to_pixels(image, wanted)

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        return (torch.stack([one(paths[i]) for i in chunk]) for chunk in chunks)

    labels = [_label_of(path, class_names) for path in paths]
    known = None if None in labels else np.array(labels, dtype=np.int64)
    about = {"set": str(folder), "images": f"{size[1]}x{size[0]}x{wanted}"}
    return ImageSet(len(paths), known, read, about, _stamp(paths))


def _label_of(path: Path, class_names: Sequence[str]) -> int | None:
    if match := SAMPLE_NAME.fullmatch(path.stem):
        return int(match[1])
    return class_names.index(path.parent.name) if path.parent.name in class_names else None


def _open_array(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """(shape, dtype, where the data starts) of a .npy stream; ValueError if it holds objects."""
    try:
        version = npy.read_magic(file)  # type: ignore[no-untyped-call]
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ValueError(f"{name} is not a .npy array: {error}") from error
    if dtype.hasobject or fortran:
        raise ValueError(f"{name} holds Python objects or Fortran order, which are not read")
    return shape, dtype, file.tell()


def npz_arrays(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of an .npz file's arrays; ValueError if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {}
            for name in archive.namelist():
                with archive.open(name) as file:
                    shapes[name.removesuffix(".npy")] = _open_array(file, f"{path}: {name}")[0]
            return shapes
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not an .npz file: {error}") from error


def from_npz(path: str | Path, *, channels: int | None = None) -> ImageSet:
    """ADM's sample file (github.com/openai/guided-diffusion): arr_0 uint8 (n, height, width, 3), arr_1 labels if any.

    It is read a batch at a time. (n, height, width) is taken as grey; channels=1 makes grey of RGB.
    """
    shapes = npz_arrays(path)
    shape = shapes.get("arr_0", ())
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3)):
        raise ValueError(f"{path}: arr_0 should be (n, height, width, 3) images, it is {shape or 'missing'}")
    found = 1 if len(shape) == 3 else shape[-1]
    wanted = channels or found
    if found < wanted:
        raise ValueError(f"{path} holds grey images, but {wanted} channels are wanted")
    with np.load(path, allow_pickle=False) as arrays:
        labels = arrays["arr_1"].astype(np.int64) if shapes.get("arr_1") == (shape[0],) else None
    row = int(np.prod(shape[1:]))

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
            _, dtype, start = _open_array(file, str(path))
            if dtype != np.uint8:
                raise ValueError(f"{path}: arr_0 should be uint8, it is {dtype}")
            for chunk in chunks:
                file.seek(start + chunk.start * row)
                data = file.read(len(chunk) * row)
                if len(data) != len(chunk) * row:
                    raise ValueError(f"{path} is cut short")
                pixels = np.frombuffer(data, np.uint8).reshape(len(chunk), *shape[1:3], found)
                images = torch.from_numpy(pixels.copy()).movedim(-1, 1)
                yield images if wanted == found else _to_grey(images)

    about = {"set": str(path), "images": f"{shape[1]}x{shape[2]}x{wanted}"}
    return ImageSet(shape[0], labels, read, about, _stamp([Path(path)]))


def _to_grey(images: Tensor) -> Tensor:
    """uint8 (n, 3, h, w) -> (n, 1, h, w), with Pillow's weights."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("nchw,c->nhw", images.float(), weights).round().to(torch.uint8)[:, None]


def write_npz(path: Path, batches: Iterable[Tensor], shape: tuple[int, ...], labels: Sequence[int]) -> Path:
    """ADM's sample file: arr_0 (n, height, width, 3), grey repeated, and arr_1, the labels; written a batch at a time.

    batches: uint8 (m, c, h, w); shape: (n, c, h, w) of them all.
    """
    count, _, height, width = shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, 3)}
    with replacing(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            npy.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            for images in batches:
                file.write(images.cpu().expand(-1, 3, -1, -1).movedim(1, -1).contiguous().numpy().tobytes())
        with archive.open("arr_1.npy", "w") as file:
            npy.write_array(file, np.array(labels, dtype=np.int64), allow_pickle=False)  # type: ignore[no-untyped-call]
    return path


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
            images = pipeline.stream(labels[chunk].tolist(), seeds, batch_size=len(chunk), **options)
            yield to_uint8(torch.stack(list(images))).cpu()

    return ImageSet(count, labels, read, {"set": "samples", "seeds": f"{seed} to {seed + count - 1}", **settings})


def reconstructions(tokenizer: Tokenizer, images: ImageSet) -> ImageSet:
    """The same images through encode and decode."""
    device = next(tokenizer.parameters()).device

    def read(chunks: Sequence[range]) -> Iterator[Tensor]:
        for batch in images.read(chunks):
            yield to_uint8(tokenizer.decode(tokenizer.encode(to_float(batch.to(device))))).cpu()

    return ImageSet(
        images.num_images, images.labels, read, images.about | {"set": f"reconstructions of {images.about['set']}"}
    )
