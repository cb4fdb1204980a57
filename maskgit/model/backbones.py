"""BACKBONES: nets from codes and a condition to logits. A new one is a class and one line in the
table.

In a config, `model: {name: transformer, dim: 384}`: its options are the keywords of its signature
but SHAPE; the name may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from maskgit.model.published.halton import Halton
from maskgit.model.published.maskbit import MaskBit
from maskgit.model.published.official import OfficialMaskGIT
from maskgit.model.published.titok_bert import TiTokBert
from maskgit.model.published.uvit import UViT
from maskgit.model.published.valeoai import ValeoMaskGIT
from maskgit.model.transformer import Transformer
from maskgit.samplers.conditions import Condition
from vqgan.registry import build, choose, options_of, split

SHAPE = ("codebook_size", "grid", "num_classes", "codes_per_cell", "code_levels", "num_outputs")
"""What a backbone is told of the codes and classes; it takes those that it has keywords for."""


class Backbone(Protocol):
    """An nn.Module with the surface that NonAutoregressiveWrapper, Pipeline and the tasks ask for.

    It may also offer `embed_at(codes, cells, condition)`, embeddings of some cells only (bool, or
    their numbers in row-major order, int64), and
    `sampling_passes(refresh)` (maskgit.model.passes): samplers are then quicker; and
    `gathered_blocks`, modules that run one after the other, each by its `around` if it has one:
    `train.shard` gathers the weights of one at a time, and of a net without them all at once.
    """

    # the keywords it was made with, JSON values: what a file of weights holds
    config: dict[str, Any]
    grid: tuple[int, int]  # (h, w) of the training
    emb_dim: int

    @property
    def any_grid(self) -> bool:
        """Whether grids of any size can be run, not those of the training only."""
        ...

    def check_grid(self, height: int, width: int) -> None:
        """ValueError if grids of this size cannot be run."""
        ...

    def null(self, condition: Condition) -> Condition:
        """A condition built alike that means none: what guidance leads away from."""
        ...

    @property
    def to_logits(self) -> nn.Module:
        """(..., dim) -> (..., codebook_size)."""
        ...

    def __call__(
        self, codes: Tensor, condition: Condition | None = None, *, return_embeddings: bool = False
    ) -> Tensor:
        """codes: (batch, h, w), hidden ones codebook_size -> (batch, h, w, codebook_size), or
        embeddings.

        A self-conditioned one also takes `sum_embeds`: (batch, h, w, dim), added to its input.
        """
        ...


BACKBONES: dict[str, Callable[..., Any]] = {
    "transformer": Transformer,
    "halton": Halton,
    "maskgit_v1": ValeoMaskGIT,
    "maskgit_flax": OfficialMaskGIT,
    "maskbit": MaskBit,
    "titok_bert": TiTokBert,
    "titok_uvit": UViT,
}
"""The first is meant where no name is given; the others are those of published weights."""
DEFAULT = next(iter(BACKBONES))


def make_backbone(spec: str | Mapping[str, Any], **shape: Any) -> Any:
    """The net that a config or a file of weights names, for codes of a shape, keywords of SHAPE.

    ValueError if an option is wrong, or if it has no other number of outputs, where a critic asks
    for one.
    """
    spec = spec if isinstance(spec, str) or "name" in spec else {"name": DEFAULT, **spec}
    known = options_of(choose(BACKBONES, split(spec, "backbone")[0], "backbone"))
    if shape.get("num_outputs") is not None and "num_outputs" not in known:
        raise ValueError(
            f"the backbone {split(spec, 'backbone')[0]} has no num_outputs: it cannot be a critic"
        )
    return build(
        BACKBONES, spec, "backbone", **{key: value for key, value in shape.items() if key in known}
    )


def make_critic(spec: str | Mapping[str, Any], generator: Any, section: str, **shape: Any) -> Any:
    """A net with one logit a cell, for the grids of a generator.

    ValueError, with the config's section, if it does not know all of them.
    """
    critic = make_backbone(spec, **shape, num_outputs=1)
    if critic.any_grid != generator.any_grid:
        wanted = "rotary" if generator.any_grid else "learned"
        raise ValueError(
            f"the generator knows grids of {'any size' if generator.any_grid else 'one size'}, "
            f"its critic has to, too: set {section}.positions={wanted}"
        )
    return critic


def spec_of(net: Any) -> dict[str, Any]:
    """What `make_backbone` makes the same net of; without a name where that is the default."""
    name = next(name for name, entry in BACKBONES.items() if entry is type(net))
    return net.config if name == DEFAULT else {"name": name, **net.config}


@torch.no_grad()
def num_parameters(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())
