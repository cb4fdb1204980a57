"""Alpha against Pillow's own compositing, and through every file and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskgit.data.alpha import (
    SQUARE,
    laid,
    on_checkerboard,
    on_colour,
    premultiplied,
    seen_channels,
    straight,
)
from maskgit.data.pixels import Transform, save_png, to_float, to_pil, to_pixels, to_uint8

COLOURS = st.sampled_from(["white", "black", "grey", "#336699"])


def picture(seed=0, size=(6, 5)):
    """RGBA noise, with some pixels wholly there and some not at all."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 4), dtype=np.uint8)
    pixels[0, :, 3], pixels[-1, :, 3] = 255, 0
    return Image.fromarray(pixels)


@given(st.integers(0, 100), COLOURS)
def test_a_premultiplied_image_lies_on_a_colour_as_pillow_lays_it(seed, colour):
    image = picture(seed)
    base = Image.new("RGBA", image.size, colour)
    wanted = np.asarray(Image.alpha_composite(base, image).convert("RGB")).transpose(2, 0, 1)
    pixels = to_pixels(image, 4)
    assert pixels.shape == (4, 6, 5)
    for found in (laid(pixels[None], colour), to_uint8(on_colour(to_float(pixels)[None], colour))):
        assert found.shape == (1, 3, 6, 5) and found.dtype == torch.uint8
        assert np.abs(found[0].numpy().astype(int) - wanted).max() <= 1
    assert np.abs(to_pixels(image, 3, colour).numpy().astype(int) - wanted).max() <= 1


@given(st.integers(0, 255), st.integers(0, 255))
def test_what_a_png_holds_is_read_as_it_was(alpha, colour):
    pixel = np.array([min(colour, alpha), alpha, 0, alpha], dtype=np.uint8)
    file = straight(pixel)
    assert file[3] == alpha and file[1] == (255 if alpha else 0) and file[2] == 0
    assert np.array_equal(premultiplied(file), pixel)
    again = to_pixels(Image.fromarray(file[None, None]), 4)
    assert np.array_equal(again[:, 0, 0], pixel)


def test_a_colour_brighter_than_its_alpha_is_what_a_png_can_hold():
    drawn = torch.tensor([[200, 100, 0, 100], [9, 0, 0, 0]], dtype=torch.uint8).T[None, :, None]
    kept = premultiplied(straight(drawn.movedim(1, -1).numpy()))
    kept = torch.from_numpy(kept).movedim(-1, 1)
    assert torch.equal(laid(drawn, "#336699"), laid(kept, "#336699"))
    assert laid(drawn, "black")[0, :, 0].T.tolist() == [[100, 100, 0], [0, 0, 0]]


def test_images_without_alpha_are_as_they_are():
    for channels in (1, 3):
        images = torch.zeros(2, channels, 4, 4, dtype=torch.uint8)
        assert laid(images, "grey") is images and on_colour(images, "grey") is images
        assert on_checkerboard(images) is images and seen_channels(channels) == channels
    assert seen_channels(4) == 3


def test_the_gradient_reaches_alpha():
    images = torch.full((1, 4, 1, 1), -1.0, requires_grad=True)
    on_colour(images, "white").sum().backward()
    assert images.grad.flatten().tolist() == [1, 1, 1, -3], "less alpha is more white"


def test_transparent_images_show_squares_and_others_hide_them():
    clear = torch.full((1, 4, 2 * SQUARE, 3 * SQUARE), -1.0)
    board = on_checkerboard(clear)[0, 0]
    cells = board.unfold(0, SQUARE, SQUARE).unfold(1, SQUARE, SQUARE).flatten(2)
    assert (cells == cells[..., :1]).all()
    assert cells[..., 0].sub(1).abs().gt(0.1).tolist() == [[0, 1, 0], [1, 0, 1]]
    full = torch.cat((torch.zeros(1, 3, 9, 9), torch.ones(1, 1, 9, 9)), 1)
    assert not on_checkerboard(full).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_kind_of_picture_gets_an_alpha(mode):
    found = Transform(8, 4)(Image.new(mode, (9, 12)))
    assert found.shape == (4, 8, 8)
    assert (found[3] == (0 if mode in ("LA", "RGBA") else 255)).all(), "else all is there"


@pytest.mark.parametrize("resample", [None, "bicubic", "nearest"])
def test_the_hidden_colour_of_a_transparent_pixel_never_shows(resample):
    """Red stands beside hidden green: resized straight, the border would be brown."""
    pixels = np.zeros((32, 32, 4), dtype=np.uint8)
    pixels[:, :15] = (255, 0, 0, 255)
    pixels[:, 15:] = (0, 255, 0, 0)
    for resize in (None, "contain"):
        found = Transform(12, 4, resample=resample, resize=resize)(Image.fromarray(pixels))
        assert not found[1:3].any() and found[0].max() == 255
        assert np.abs(found[0].astype(int) - found[3]).max() <= 1


def test_contain_is_transparent_where_the_picture_ends():
    found = Transform(12, 4, resize="contain", background="red")(Image.new("RGB", (6, 3), "white"))
    assert (found[:, 3:9] == 255).all() and not found[:, :3].any() and not found[:, 9:].any()


def test_a_png_has_straight_colours(tmp_path):
    pixels = to_pixels(picture(), 4)
    path = save_png(to_pil(to_float(pixels)), tmp_path / "a.png")
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        assert torch.equal(to_pixels(image, 4), pixels)
        there = np.asarray(image)[0], np.asarray(picture())[0]
    assert np.array_equal(*there), "where nothing is transparent, colours are as they were"
