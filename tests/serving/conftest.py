"""A studio of the tiny pipeline, and requests to it."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from maskgit.serving import Limits, Studio


@pytest.fixture
def studio(tiny_pipeline, monkeypatch):
    monkeypatch.setattr("maskgit.serving.studio.FREE_SECONDS", math.inf)  # every round is shown
    return Studio(tiny_pipeline, "runs/tiny")


@pytest.fixture
def limits():
    return Limits()


def as_address(image):
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def as_image(address):
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


def picture(height=16, width=16, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask(height=16, width=16, box=(0, 0, 6, 6)):
    pixels = np.zeros((height, width), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


def drawing(**values):
    return json.dumps({"labels": [0, 2], "per_label": 2, "seed": 7, **values})


def editing(what, **values):
    return json.dumps(
        {"what": what, "image": as_address(picture()), "label": 1, "seed": 3, **values}
    )
