"""Editing: a part of an image is drawn anew, or around it, or between two."""

from vqgan.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "operations": ["EDITS", "Edit", "box_mask", "check_image", "check_places", "edit"],
        "requests": ["Outputs", "Retouch", "edit_keywords", "retouch", "rounds_shown"],
    },
)
