"""What a generator draws now, while it or its critic is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from maskgit.pipeline.drawing import class_grid
from maskgit.pipeline.pipeline import Pipeline


def first_classes(pipeline: Pipeline, num_rows: int = 10, num_columns: int = 6) -> Image.Image:
    """Samples of the first classes, one row a class, always of the same seeds."""
    return class_grid(pipeline, range(min(num_rows, len(pipeline.class_names))), num_columns)


def show(picture: Image.Image, step: int, trackers: Sequence[Any]) -> None:
    """Give a preview to those of accelerate's trackers that take images."""
    for tracker in trackers:
        if hasattr(tracker, "log_images"):
            how = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"preview": np.asarray(picture)[None]}, step, **how)
