"""Importing: weights that other projects have published, read as tensors by name."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "hub": ["fetch"],
        "reading": ["Foreign", "read_tensors"],
    },
)
