import io
import os
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskgit.config.sections import DataConfig
from maskgit.data import pixels as images
from maskgit.data.datasets import transform_of
from maskgit.data.pixels import (
    Transform,
    is_whole_png,
    open_image,
    save_png,
    save_pngs,
    to_float,
    to_mode,
    to_pil,
)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    image = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert np.asarray(to_mode(image, 1)).tolist() == [[0, 128, 255]]


def test_float_grey_in_unit_range_is_scaled():
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert np.asarray(to_mode(image, 1)).tolist() == [[0, 128, 255]]


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert np.asarray(to_mode(image, 3)).tolist() == [[[255, 255, 255]]]
    palette = Image.new("RGBA", (1, 1), (0, 0, 0, 0)).convert("P")
    palette.info["transparency"] = 0
    assert to_mode(palette, 3).mode == "RGB"


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_rgb(mode, channels):
    assert to_mode(Image.new(mode, (4, 3)), channels).mode == ("L" if channels == 1 else "RGB")


def test_exif_turns_the_image():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(buffer, "JPEG", exif=exif)
    assert open_image(buffer.getvalue()).size == (4, 8)


def test_a_picture_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="4x4 is more than 10 pixels"):
        open_image(buffer.getvalue())


@pytest.mark.parametrize("size", [(16, 16), (40, 16), (16, 50), (100, 31), (7, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_transform_gives_a_square(size, channels):
    transform = Transform(16, channels, crop="random", flip=True)
    for draws in (None, np.array([0.99, 0.99, 0.99, 0.0])):
        out = transform(Image.new("RGB", size), draws)
        assert out.shape == (channels, 16, 16) and out.dtype == np.uint8


def test_which_are_mirrored_is_a_coin_of_the_draws_and_only_with_flip():
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    heads, tails = np.array([0, 0, 0, 0.1]), np.array([0, 0, 0, 0.9])
    flip = Transform(4, 1, flip=True)
    assert flip.mirrors(heads) and not flip.mirrors(tails) and not flip.mirrors(None)
    assert not Transform(4, 1).mirrors(heads)
    assert (flip(image, heads) == Transform(4, 1)(image)).all(), "mirrored later, on the device"


def test_resize_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (64, 32)))
    assert np.abs(Transform(16, 1)(stripes).astype(int) - 127).max() < 20


def test_float_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert np.array_equal(np.asarray(to_pil(to_float(pixels))), pixels[0].numpy())
    assert to_float(pixels).min() == -1 and to_float(pixels).max() == 1
    assert to_pil(torch.zeros(3, 2, 5)).size == (5, 2)


def test_a_png_is_renamed_into_place(tmp_path):
    path = save_png(Image.new("L", (2, 2)), tmp_path / "a" / "b.png")
    assert [p.name for p in path.parent.iterdir()] == ["b.png"]


def test_a_bomb_and_broken_bytes_raise_what_readers_expect():
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="DecompressionBomb"):
        open_image(buffer.getvalue())
    png = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)).save(
        png, "PNG"
    )
    good = png.getvalue()
    for cut in range(0, len(good), 7):
        for data in (good[:cut], good[:cut] + b"\xff" + good[cut + 1 :]):
            with suppress(OSError, ValueError):
                open_image(data)


def test_a_thread_of_an_image_is_refused_not_blown_up():
    with pytest.raises(ValueError, match="too long and thin"):
        Transform(256, 1)(Image.new("L", (1, 10_000)))


def deep(values, kind):
    return Image.fromarray(np.array([values], dtype=kind))


def test_deep_grey_has_one_scale_for_all_images():
    """The same scene at full exposure and in the dark."""
    light = np.asarray(to_mode(deep([0, 2048 * 16, 4095 * 16], np.uint16), 1))
    dark = np.asarray(to_mode(deep([0, 2048, 4095], np.uint16), 1))
    assert light.tolist() == [[0, 128, 255]] and dark.tolist() == [[0, 8, 16]]
    transform = Transform(1, 1, range=(0, 4095))
    assert transform(deep([4095], np.uint16)).item() == 255
    assert transform(deep([2048], np.int32)).item() == 128
    assert Transform(1, 1, range=(-1, 1))(deep([0.0], np.float32)).item() == 128


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ([0, np.nan], np.float32, "finite"),
        ([0, np.inf], np.float32, "finite"),
        ([0, 200], np.float32, r"0 \.\. 200, not in 0 \.\. 1: set data.range"),
        ([-1, 5], np.int32, r"-1 \.\. 5, not in 0 \.\. 65535"),
    ],
)
def test_what_lies_outside_the_scale_is_refused(values, kind, said):
    with pytest.raises(ValueError, match=said):
        to_mode(deep(values, kind), 1)


@pytest.mark.parametrize("room", [0, 1, 2, 5])
def test_random_crops_begin_everywhere_and_plain_ones_in_the_middle(room):
    """Of pictures whose pixels are their columns' numbers."""
    pixels = np.tile(np.arange(8 + room, dtype=np.uint8), (8, 1))
    transform = Transform(8, 1, crop="random", max_scale=1.0)
    draws = np.random.default_rng(0).random(4000)
    starts = [transform(Image.fromarray(pixels), np.array([0, u, 0, 1]))[0, 0, 0] for u in draws]
    counts = np.bincount(starts, minlength=room + 1)
    assert len(counts) == room + 1
    assert (abs(counts - 4000 / (room + 1)) < 5 * (4000 / (room + 1)) ** 0.5).all()
    turned = transform(Image.fromarray(pixels.T.copy()), np.array([0, 0, 1 - 1e-12, 1]))
    assert turned[0, 0, 0] == room
    assert transform(Image.fromarray(pixels))[0, 0, 0] == room // 2


def test_many_pictures_are_written_at_once_and_a_failure_is_told(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        pictures = [(tmp_path / f"{i}.png", Image.new("L", (9, 9), i)) for i in range(200)]
        flushed = []
        monkeypatch.setattr("vqgan.files.flush", flushed.append)
        save_pngs(pictures)
        assert os.umask(0o027) == 0o027, "as it was, whatever threads asked at once"
    finally:
        os.umask(before)
    for i, (path, _) in enumerate(pictures):
        assert Image.open(path).getpixel((4, 4)) == i and is_whole_png(path)
        assert path.stat().st_mode & 0o777 == 0o640
    assert not flushed and not list(tmp_path.glob(".tmp*"))
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError, match="taken"):
        save_pngs([(tmp_path / "taken.png", pictures[0][1]), *pictures])


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_a_picture_that_was_cut_short_is_not_whole(tmp_path, length):
    path = save_png(Image.new("L", (9, 9)), tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:length])
    assert not is_whole_png(path) and not is_whole_png(tmp_path / "none.png")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(50, 37), (37, 50), (20, 16), (16, 16)])
def test_bicubic_is_pillows_to_a_rounding(channels, size):
    """Of the part that is cut out: smooth pictures, so that a pixel more or less is little."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    waves = 128 + 100 * np.sin(rows / 9) * np.cos(columns / 7 + np.arange(3)[:, None, None])
    picture = Image.fromarray(waves.transpose(1, 2, 0).astype(np.uint8))
    draws = np.array([0.4, 0.9, 0.2, 0.1])
    for crop in ("center", "random"):
        options = {"crop": crop, "max_scale": 1.5, "flip": True}
        found = Transform(16, channels, resample="bicubic", **options)(picture, draws)
        wanted = Transform(16, channels, **options)(picture, draws)
        assert found.shape == (channels, 16, 16) and found.dtype == np.uint8
        assert np.abs(found.astype(int) - wanted).mean() < 4
        if min(size) == 16 and crop == "center":
            assert np.array_equal(found, wanted), "nothing is resized"


def test_bicubic_keeps_what_pillows_does_at_whole_pixels():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    wanted = np.asarray(picture.resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    found = Transform(16, 3, resample="bicubic")(picture)
    assert np.abs(found.astype(int) - wanted).max() <= 3


def test_a_cache_made_before_there_was_bicubic_is_of_the_same_transform():
    assert transform_of(DataConfig()).resample is None
    assert transform_of(DataConfig(resample="bicubic")).resample == "bicubic"


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    resample=st.sampled_from([None, "bicubic", "nearest"]),
    draws=st.none() | st.lists(st.floats(0, 0.999), min_size=4, max_size=4),
)
def test_contain_shows_the_whole_picture_in_its_shape(width, height, resample, draws):
    """A black picture on red: where it lies is a rectangle of the picture's shape, to a pixel."""
    transform = Transform(
        24, 3, crop="random", resample=resample, resize="contain", background="red"
    )
    found = transform(Image.new("RGB", (width, height)), None if draws is None else np.array(draws))
    assert found.shape == (3, 24, 24)
    is_picture = found[0] == 0
    assert np.array_equal(found[0], np.where(is_picture, 0, 255)) and not found[1:].any()
    rows, columns = np.flatnonzero(is_picture.any(1)), np.flatnonzero(is_picture.any(0))
    tall, wide = len(rows), len(columns)
    assert is_picture.sum() == tall * wide, "a rectangle"
    assert abs(tall - wide * height / width) < 1 + height / width
    assert max(tall, wide) <= 24
    if draws is None:
        assert abs(rows[0] - (24 - tall) / 2) < 1 and abs(columns[0] - (24 - wide) / 2) < 1
        if resample != "nearest":
            assert max(tall, wide) == 24


def test_nearest_keeps_the_colours_of_pixel_art_and_its_pixels_square():
    art = np.random.default_rng(0).integers(0, 256, (7, 10, 3), np.uint8)
    found = Transform(24, 3, resample="nearest", resize="contain")(Image.fromarray(art))
    twice = art.repeat(2, 0).repeat(2, 1).transpose(2, 0, 1)
    assert np.array_equal(found[:, 5:19, 2:22], twice), "2 times, not 2.4"
    cut = Transform(14, 3, resample="nearest")(Image.fromarray(art))
    assert np.array_equal(cut, twice[:, :, 3:17])


def test_what_is_transparent_lies_on_the_background():
    clear = Image.new("RGBA", (4, 4), (0, 255, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    for name, colour in ((None, 255), ("grey", 128), ("black", 0)):
        assert (Transform(4, 3, background=name)(clear) == colour).all()
        found = Transform(4, 1, background=name)(half).astype(int)
        assert (abs(found - colour * 127 / 255) <= 1).all()


def test_what_a_cache_was_cut_by_before_there_were_choices_is_none():
    found = transform_of(DataConfig())
    assert found.resize is None and found.background is None
    data = DataConfig(resize="contain", background="grey", resample="nearest")
    found = transform_of(data)
    assert (found.resize, found.background, found.resample) == ("contain", "grey", "nearest")


def test_a_colour_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="'gras'.*: a name such as grey, or '#336699' in quotes"):
        DataConfig(background="gras")
    assert DataConfig(background="#336699").background == "#336699"
