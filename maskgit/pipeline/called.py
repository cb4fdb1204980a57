"""`pipeline(class_labels=[...])`: a Pipeline as scripts for diffusers' DiTPipeline call one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskgit.data.alpha import WITH_ALPHA
from maskgit.data.pixels import to_pil
from maskgit.pipeline.labels import numbers_of
from vqgan.registry import choose

if TYPE_CHECKING:
    from maskgit.pipeline.pipeline import Pipeline

Generators = torch.Generator | Sequence[torch.Generator] | None


class Drawn(NamedTuple):
    """What a call gives: `.images`, or the first of a tuple."""

    images: Any
    """pil: a list of PIL images; np: float32 (batch, height, width, channels) in [0, 1];
    pt: float (batch, channels, height, width) in [0, 1]; colours are not times alpha."""


def call(
    pipeline: Pipeline,
    class_labels: int | str | Sequence[int | str] | Tensor,
    guidance_scale: float | None = None,
    generator: Generators = None,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    return_dict: bool = True,
    **options: Any,
) -> Drawn:
    """Images of classes, by labels or names, with diffusers' words for `steps` and `guidance`.

    Without these two the pipeline's own settings are drawn with. generator: the seeds of images are
    drawn from it, or from the one of each image, else from torch's own. return_dict: no matter.
    options: as in `Pipeline.generate`; ValueError for others.
    """
    make = choose(OUTPUTS, output_type, "output_type")
    labels = class_labels.tolist() if isinstance(class_labels, Tensor) else class_labels
    numbers = numbers_of(labels, pipeline.class_names)
    numbers = list(numbers) if isinstance(numbers, Sequence) else [numbers]
    if not numbers:
        raise ValueError("no class_labels given: write e.g. [0, 3], or class names")
    words = {"steps": num_inference_steps, "guidance": guidance_scale}
    if twice := [key for key, value in words.items() if value is not None and key in options]:
        raise ValueError(f"{twice[0]} is given twice: once in the words of diffusers")
    options |= {key: value for key, value in words.items() if value is not None}
    pipeline.settings(**{k: v for k, v in options.items() if k not in OF_IMAGES})
    seeds = seeds_of(generator, len(numbers))
    return Drawn(make(list(pipeline.stream(numbers, seeds, **options))))


OF_IMAGES = {"batch_size", "codes", "height", "width", "negative", "mixed_with"}
"""The options of `Pipeline.stream` that are no settings."""


def seeds_of(generator: Generators, count: int) -> list[int]:
    """A seed for each of `count` images; those of a new generator depend on its seed alone."""
    if generator is None or isinstance(generator, torch.Generator):
        return _draw(generator, count)
    if not isinstance(generator, Sequence) or len(generator) != count:
        raise ValueError(
            f"generator is a torch.Generator, or a list of {count}, one for each image"
        )
    if not all(isinstance(one, torch.Generator) for one in generator):
        raise ValueError("each generator of the list has to be a torch.Generator")
    return [seed for one in generator for seed in _draw(one, 1)]


def _draw(generator: torch.Generator | None, count: int) -> list[int]:
    device = "cpu" if generator is None else generator.device
    drawn = torch.randint(2**63 - 1, (count,), generator=generator, device=device)
    return [int(seed) for seed in drawn]


def _to_pil(images: Sequence[Tensor]) -> list[Image.Image]:
    return [to_pil(image) for image in images]


def _to_pt(images: Sequence[Tensor]) -> Tensor:
    found = (torch.stack(list(images)).float() / 2 + 0.5).clamp(0, 1)
    if found.shape[1] != WITH_ALPHA:
        return found
    colours, alpha = found.split([3, 1], dim=1)
    return torch.cat((colours.minimum(alpha) / alpha.clamp(min=1 / 255), alpha), dim=1)


def _to_np(images: Sequence[Tensor]) -> np.ndarray:
    return _to_pt(images).permute(0, 2, 3, 1).cpu().numpy()


OUTPUTS: dict[str, Callable[[Sequence[Tensor]], Any]] = {
    "pil": _to_pil,
    "np": _to_np,
    "pt": _to_pt,
}
"""name -> how images (channels, height, width) in [-1, 1] are given."""
