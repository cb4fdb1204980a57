"""Image-token generation, MaskGIT style: train, sample and share class-conditional masked-code models.

from maskgit import Pipeline
images = Pipeline.from_pretrained("runs/mnist/maskgit").generate(labels=[3, 3, 7], seeds=[0, 1, 2])
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Pipeline": "pipeline",
    "NonAutoregressiveWrapper": "wrapper",
    "Losses": "wrapper",
    "Transformer": "transformer",
    "BACKBONES": "backbones",
    "Guided": "guidance",
    "EDITS": "editing",
    "edit": "editing",
    "GUIDANCE_SCHEDULES": "guidance",
    "SCHEDULES": "schedules",
    "SAMPLERS": "samplers",
    "SOURCES": "sources",
    "TASKS": "tasks",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that `import maskgit` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'maskgit' has no attribute {name!r}")
    return getattr(import_module(f"maskgit.{_HOMES[name]}"), name)
