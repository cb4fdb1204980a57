"""Files and folders that data sets of the world hold: each is read right, or named."""

import gzip
import io
import os
import resource
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from maskgit.data.datasets import ImageDataset, Quarantine
from maskgit.data.order import batches, in_order
from maskgit.data.pixels import Transform
from maskgit.data.sources import load_source

pytestmark = pytest.mark.faults
HALVES = np.repeat(np.array([0, 255], dtype=np.uint8), 8)[:, None].repeat(16, 1)  # black on white
GREY = Image.fromarray(HALVES)


def data_of(image, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned():
    """Upside down, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[274] = 3
    return data_of(GREY.rotate(180), "JPEG", exif=exif)


def bomb(side):
    """The header of a PNG that would unfold to side x side pixels."""
    ends = [
        (b"IHDR", side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])),
        (b"IDAT", b"x"),
        (b"IEND", b""),
    ]
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(8)
    for name, data in ends:
        PngImagePlugin.putchunk(file, name, data)
    return file.getvalue()


def deep(values, kind):
    """An array's picture."""
    return data_of(Image.fromarray(values), kind)


def with_alpha(mode):
    """White where it is white or transparent."""
    image = GREY.convert(mode)
    image.putalpha(Image.fromarray(255 - HALVES))
    return image


FLOAT = (HALVES / 255).astype(np.float32)
NAN, INFINITE = FLOAT.copy(), FLOAT.copy()
NAN[3, 3], INFINITE[3, 3] = np.nan, np.inf
PNG, JPEG, GIF = (data_of(GREY, kind) for kind in ("PNG", "JPEG", "GIF"))
WHOLE = {"compression": "tiff_lzw"}
FRAMES = {"save_all": True, "append_images": [GREY.rotate(180)]}
PALETTE = GREY.convert("RGB").quantize(4)

RIGHT = {
    **{f"{mode}.png": data_of(GREY.convert(mode), "PNG") for mode in ("1", "L", "RGB", "P")},
    **{f"{mode}.png": data_of(with_alpha(mode[:-1]), "PNG") for mode in ("LA", "RGBA")},
    **{f"{mode}.jpg": data_of(GREY.convert("RGB").convert(mode), "JPEG") for mode in ("CMYK", "YCbCr")},
    **{f"{mode}.tif": data_of(GREY.convert("RGB").convert(mode), "TIFF") for mode in ("RGB", "CMYK")},
    **{f"lower.{s}": data_of(GREY.convert("RGB"), k) for s, k in
       {"bmp": "BMP", "ppm": "PPM", "tga": "TGA", "webp": "WEBP", "dib": "DIB", "pcx": "PCX",
        "sgi": "SGI", "jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "jp2": "JPEG2000",
        "gif": "GIF", "tiff": "TIFF", "ico": "ICO", "icns": "PNG"}.items()},
    "UPPER.PNG": PNG, "Mixed.JpG": JPEG, "really-png.jpg": PNG, "really-gif.png": GIF,
    "progressive.jpg": data_of(GREY, "JPEG", progressive=True),
    "turned.jpg": turned(),
    "animated.gif": data_of(GREY, "GIF", **FRAMES),
    "animated.webp": data_of(GREY.convert("RGB"), "WEBP", lossless=True, **FRAMES),
    "animated.png": data_of(GREY, "PNG", **FRAMES),
    "pages.tif": data_of(GREY, "TIFF", **FRAMES), "lzw.tif": data_of(GREY, "TIFF", **WHOLE),
    "deep.png": deep(HALVES.astype(np.uint16) * 257, "PNG"),
    "deep.tif": deep(HALVES.astype(np.uint16) * 257, "TIFF"),
    "long.tif": deep(HALVES.astype(np.int32) * 257, "TIFF"),
    "float.tif": deep(FLOAT, "TIFF"),
    "transparent palette.png": data_of(PALETTE, "PNG", transparency=PALETTE.getpixel((0, 15))),
    "trailing.png": PNG + bytes(100), "a\nb.png": PNG, "smile \N{GRINNING FACE}.png": PNG,
    "Ünïcödé.png": PNG, "l" * 240 + ".png": PNG, "100%{x}.png": PNG, "two.dots..png": PNG,
    b"bytes \xff.png": PNG,
}  # fmt: skip
NAMED = {
    "empty.png": b"", "empty.jpg": b"", "one.png": b"\x89", "zeros.jpg": bytes(999),
    "text.png": b"not an image\n", "page.jpg": b"<!DOCTYPE html><html></html>",
    "cut.png": PNG[:-30], "cut.jpg": JPEG[: len(JPEG) // 2], "cut.gif": GIF[:20],
    "head.jpg": JPEG[:20], "flipped.png": PNG[:45] + bytes([PNG[45] ^ 255]) + PNG[46:],
    "bomb.png": bomb(60_000), "large.png": bomb(9_000), "long.png": bomb(2**31 - 1),
    "nan.tif": deep(NAN, "TIFF"), "infinite.tif": deep(INFINITE, "TIFF"),
    "bright.tif": deep(FLOAT * 300, "TIFF"), "negative.tif": deep(-FLOAT, "TIFF"),
    "packed.png": gzip.compress(PNG), "thin.png": data_of(Image.new("L", (1, 2_000_000)), "PNG"),
    "notes.txt": b"hello", "table.csv": b"a,b\n", "phone.heic": b"ftypheic", "unnamed": b"x",
    "drawing.svg": b"<svg/>", "more.zip": b"PK", "raw.npy": b"\x93NUMPY", "page.eps": b"%!PS",
}  # fmt: skip
HIDDEN = dict.fromkeys((".hidden.png", "._a.png", "Thumbs.db", "desktop.ini", ".DS_Store"), PNG)


def special_files(folder):
    """What is no file, or nothing of this folder; all must be named."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")  # a socket's path is short: we are in the folder
    (folder / "nowhere.png").symlink_to("not-there.png")
    (folder / "round.png").symlink_to("round.png")
    (folder / "up").symlink_to("..")
    (folder / "itself").symlink_to(".")
    (folder / "null.png").symlink_to("/dev/null")
    (folder / "zero.png").symlink_to("/dev/zero")
    for name in (".git", "__MACOSX", "@eaDir", ".ipynb_checkpoints"):
        (folder / name).mkdir()
        (folder / name / "a.png").write_bytes(PNG)
    (folder / "folder.png").mkdir()
    (folder / "folder.png" / "inside.png").write_bytes(PNG)
    return ["pipe.png", "socket.png", "nowhere.png", "round.png", "up", "itself", "null.png",
            "zero.png", ".git", "__MACOSX", "@eaDir", ".ipynb_checkpoints"]  # fmt: skip


def is_right(pixels):
    """Whether black is above, white below."""
    above, below = pixels[:, :2].float().mean(), pixels[:, -2:].float().mean()
    return bool(above < 40 and below > 215)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_folders_hold_is_read_right_or_named(tmp_path, tally, capfd, monkeypatch, workers):
    folder, validation = tmp_path / "train" / "a", tmp_path / "val" / "a"
    for path in (folder, validation):
        path.mkdir(parents=True)
        (path / "inside.png").write_bytes(PNG)
    for name, data in (RIGHT | NAMED | HIDDEN).items():
        (folder / os.fsdecode(name)).write_bytes(data)
    monkeypatch.chdir(folder)
    named = {*NAMED, *HIDDEN, *special_files(folder)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = load_source({"name": "folder", "root": str(tmp_path)}, "train")
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", "train", max_share=1)
    dataset = ImageDataset(source, Transform(8, 1), quarantine=quarantine)
    order = in_order(range(len(dataset)), 8)
    pixels = torch.cat([batch.data for batch in batches(dataset, order, workers=workers)])
    assert len(pixels) == len(dataset)  # the epoch ends
    told = {*quarantine.listed(), *set().union(*source.skipped.names.values())}
    told = {Path(name).name for name in told}
    read = {Path(source.name(i)).name: is_right(pixels[i]) for i in range(len(dataset))}
    right = {os.fsdecode(name) for name in RIGHT}
    wrong = {name for name in right if name in told or not read.get(name)} | named - told
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print("neither right nor named:", wrong)
    assert grown < 2**20 and "Traceback" not in capfd.readouterr().err
    count = len(right | named)
    tally(f"images ({workers} workers)", count - len(wrong), count, grown_mib=grown // 1024)
