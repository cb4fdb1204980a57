"""What a generator draws now, while it or its critic is trained."""

from __future__ import annotations

from PIL import Image

from maskgit.pipeline.pipeline import Pipeline, class_grid


def first_classes(pipeline: Pipeline, num_rows: int = 10, num_columns: int = 6) -> Image.Image:
    """Samples of the first classes, one row a class, always of the same seeds."""
    return class_grid(pipeline, range(min(num_rows, len(pipeline.class_names))), num_columns)
