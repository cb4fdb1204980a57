"""The official MaskGIT's checkpoints (arXiv:2202.04200; Apache-2.0)."""

from __future__ import annotations

from maskgit.importing import maskgit_flax_generator as generator
from maskgit.importing.system import System

SYSTEM = System(
    "MaskGIT",
    "https://github.com/google-research/maskgit",
    "Apache-2.0",
    generator.FILES,
    generator.knows,
    generator.read,
    tokenizer="maskgit_flax tokenizer_imagenet256_checkpoint",
    sampler=generator.SAMPLER,
)
