import numpy as np
from PIL import Image

from maskgit.data.colours import asked_of_colour, is_colour, unpacked
from maskgit.data.sources.source import from_arrays


def test_a_little_colour_is_colour_and_grey_in_three_channels_is_none():
    grey = Image.linear_gradient("L").convert("RGB")
    assert not is_colour(grey) and not is_colour(grey.convert("L"))
    grey.paste((200, 0, 0), (0, 0, 64, 64))
    assert is_colour(grey) and is_colour(unpacked(grey.quantize(16)))


def test_colour_that_would_be_made_grey_is_asked_about():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 255, (20, 4, 4, 3), dtype=np.uint8)
    cats = from_arrays(colour, np.zeros(20, dtype=np.int64), ("cat",), "cats")
    dogs = from_arrays(colour[..., 0], np.zeros(20, dtype=np.int64), ("dog",), "dogs")
    assert "8 of 8 images looked at are in colour" in asked_of_colour(cats, 1)
    assert asked_of_colour(cats, 3) == asked_of_colour(dogs, 1) == ""
