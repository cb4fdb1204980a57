"""Importing: weights that other projects have published -> folders of ours."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "reading": ["Foreign", "read_tensors"],
        "importers": ["IMPORTERS"],
        "conversion": ["class_names", "import_weights", "load_tokenizer", "read_sizes"],
    },
)
