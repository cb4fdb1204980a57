"""Images <-> grids of codes: a convolutional autoencoder with a discrete bottleneck.

A pure model package: it knows no data set, no training loop and no file but its own weights.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Tokenizer": "tokenizer",
    "QUANTIZERS": "quantizers",
    "DISCRIMINATORS": "discriminator",
    "PIXEL_LOSSES": "losses",
    "PERCEPTUAL": "perceptual",
    "ADVERSARIAL": "losses",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that `import vqgan` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vqgan' has no attribute {name!r}")
    return getattr(import_module(f"vqgan.{_HOMES[name]}"), name)
