import numpy as np
from PIL import Image

from maskgit.data.likeness import alike, likeness, on_grey


def noise(seed, size=40):
    values = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC)


def test_copies_resized_or_saved_anew_are_found_and_others_are_not():
    images = [noise(seed) for seed in range(30)]
    images += [noise(3, 64), noise(7).point(lambda v: min(255, v + 2)), noise(3, 100)]
    assert sorted(alike([likeness(image) for image in images])) == [[3, 30, 32], [7, 31]]


def test_flat_images_are_alike_only_in_the_same_colour():
    colours = ["red", "blue", "red", "white"]
    images = [likeness(Image.new("RGB", (9, 20), colour)) for colour in colours]
    assert len({image.hash for image in images}) == 1
    assert alike(images) == [[0, 2]]


def test_the_hidden_colour_of_transparent_pixels_does_not_count():
    clear = [Image.new("RGBA", (8, 8), (red, 0, 0, 0)) for red in (0, 255)]
    assert [on_grey(image).getpixel((0, 0)) for image in clear] == [(128, 128, 128)] * 2
    assert alike([likeness(image) for image in clear]) == [[0, 1]]


def test_one_image_or_none_is_like_nothing():
    assert alike([]) == alike([likeness(noise(0))]) == []
