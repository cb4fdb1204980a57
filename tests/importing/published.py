"""Tensors of published sizes that take no memory."""

from pathlib import Path

import torch

from maskgit.importing.reading import Foreign


def of_shapes(shapes):
    """name -> shape, as a file of such tensors without numbers."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return Foreign(tensors, {}, Path("weights.pth"), "0" * 64, None)
