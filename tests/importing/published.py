"""Tensors of published sizes that take no memory."""

from pathlib import Path

import torch

from maskgit.importing.reading import Foreign


def of_shapes(shapes):
    """name -> shape, as a file of such tensors without numbers."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return Foreign(tensors, {}, Path("weights.pth"), "0" * 64, None)


def spoiled(tensors):
    """(what was done, the tensors with one that is lost or of another shape), of each of them."""
    for name, tensor in tensors.items():
        others = {
            "lost": None,
            "longer": torch.cat((tensor, tensor[:1])),
            "wider": torch.cat((tensor, tensor[..., :1]), -1),
            "flat": tensor.flatten()[:, None] if tensor.ndim == 1 else tensor.flatten(),
            "a number": tensor.flatten()[0],
        }
        for what, other in others.items():
            rest = {key: value for key, value in tensors.items() if key != name}
            yield f"{name} {what}", rest if other is None else rest | {name: other}
