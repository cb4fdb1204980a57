"""Serving: a page in the browser to draw, compare and edit with a pipeline."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "asked": ["DrawAsked", "EditAsked", "Limits"],
        "door": ["Door"],
        "studio": ["Studio"],
        "page": ["check_gradio", "serve"],
    },
)
