"""A published file -> a folder of ours: a tokenizer, or a pipeline; and the card that says whence.

A tokenizer's folder holds tokenizer.safetensors, as a run's; a generator's is a pipeline, whose
tokenizer may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maskgit.config.presets import Preset
from maskgit.config.sections import GuidanceConfig
from maskgit.importing.cards import write_card
from maskgit.importing.importers import IMPORTERS, looks_like, may_be
from maskgit.importing.reading import Foreign, read_tensors
from maskgit.importing.system import Imported, Sizes, System, theirs
from maskgit.model.backbones import make_backbone
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.pipeline.hub import PREFIX, fetch
from maskgit.pipeline.pipeline import Pipeline
from maskgit.processes import held
from vqgan.grids import GridTokenizer
from vqgan.registry import choose
from vqgan.tokenizers import load_tokenizer, make_tokenizer
from vqgan.weights import check_numbers, save_weights, without_memory

PAPER = "paper"
"""The preset of a project's own settings."""


class Origin(NamedTuple):
    """Where weights come from, as their files say."""

    system: str
    title: str
    url: str
    licence: str
    file: str
    sha256: str
    tokenizer: str  # what a generator's codes are of: the words after `maskgit import`


def import_weights(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    sizes: Mapping[str, Any] | None = None,
) -> Path:
    """Read a file, a folder or a `hub:` name of an entry of IMPORTERS, and write `out` -> it.

    tokenizer: of a generator's codes, a folder or file of ours. sizes: see `Sizes`. ValueError says
    what the file looks like if it is another's, or what it lacks.
    """
    system, out = choose(IMPORTERS, name, "system"), Path(out)
    if (out / "config.yaml").is_file():
        raise ValueError(f"{out} is a training run: import into a folder of its own")
    named = str(source)
    known = [file.file for file in system.files]
    if str(source).startswith(PREFIX):
        source = fetch(str(source), known=known)
    foreign = read_tensors(source, known)
    weights = foreign._replace(tensors=_without_training(foreign.tensors))
    given = Sizes({**foreign.config, **(sizes or {})})
    if not may_be(name, foreign.tensors):
        raise ValueError(f"{foreign.path} is no file of {name}: {_instead(name, weights, given)}")
    try:
        imported = system.read(weights, given)
        module = _fitting(imported)
    except ValueError as error:
        raise ValueError(f"{foreign.path} is no whole file of {name}: {error}") from error
    except STRANGE as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{foreign.path} is no whole file of {name}: its tensors have shapes that do not "
            f"belong together ({said})"
        ) from error
    needs = system.tokenizer.format(system.size(imported.model)) if imported.is_generator else ""
    origin = Origin(
        name, system.title, system.url, system.licence,
        named if named.startswith(PREFIX) else Path(named).name, foreign.sha256, needs,
    )  # fmt: skip
    _check_place(out, imported)
    with held(out, "import"):
        if imported.kind == "tokenizer":
            if tokenizer is not None:
                raise ValueError(f"{foreign.path} is a tokenizer itself: leave --tokenizer out")
            extra = {"model": module.config, "imported": origin._asdict()}
            save_weights(out / "tokenizer.safetensors", imported.tensors, "tokenizer", extra)
        else:
            pipeline = _pipeline(module, system, origin, tokenizer)
            pipeline.save_pretrained(out)
        write_card(out, imported.kind, module, system, origin)
    return out


STRANGE = (IndexError, KeyError, TypeError, RuntimeError, ZeroDivisionError, AttributeError)
"""What tensors of shapes that nobody thought of lead to."""
LEFT_OVER = ("loss.", "discriminator.", "lpips.", "perceptual_loss.")
"""What names of the parts that only training needs begin with."""


def _without_training(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(LEFT_OVER)}


def _check_place(out: Path, imported: Imported) -> None:
    """ValueError if a folder holds what this would be mixed with."""
    has_pipeline = (out / "config.json").is_file() or (out / "model.safetensors").is_file()
    has_tokenizer = (out / "tokenizer.safetensors").is_file() and not has_pipeline
    if has_tokenizer if imported.is_generator else has_pipeline:
        other = "tokenizer" if imported.is_generator else "generator"
        raise ValueError(f"{out} holds a {other}: import into a folder of its own")


def _instead(name: str, foreign: Foreign, sizes: Sizes) -> str:
    """What a file looks like, or what one of the system would have beside."""
    others = looks_like(foreign.tensors)
    if others:
        return f"it looks like {' or '.join(others)} (`maskgit import {others[0]} ...`)"
    first = ", ".join(list(foreign.tensors)[:3])
    said = f"its {len(foreign.tensors)} tensors are {first}, ..., of no system that is known here"
    try:
        _fitting(IMPORTERS[name].read(foreign, sizes))
    except ValueError as error:
        return f"{said}; as one of {name} {error}" if str(error).startswith("it lacks") else said
    except STRANGE:
        pass
    return said


def _fitting(imported: Imported) -> nn.Module:
    """The net that the tensors are of, with them as its weights; ValueError names what differs."""
    check_numbers(imported.model, "it asks for a model")
    make = make_tokenizer if imported.kind == "tokenizer" else make_backbone
    with without_memory(2 * len(imported.tensors) + 100):
        module: nn.Module = make(imported.model)
    wanted = module.state_dict()
    if lost := [name for name in wanted if name not in imported.tensors]:
        raise ValueError(f"it lacks {_some([theirs(imported.tensors, each) for each in lost])}")
    if odd := [name for name in imported.tensors if name not in wanted]:
        raise ValueError(f"it holds {_some(odd)}, which such a model has not")
    for name, like in wanted.items():
        found = imported.tensors[name]
        if like.shape != found.shape:
            shapes = f"{tuple(found.shape)}, not {tuple(like.shape)}"
            raise ValueError(f"its {theirs(imported.tensors, name)} is {shapes}")
        if like.is_floating_point() != found.is_floating_point():
            raise ValueError(f"its {theirs(imported.tensors, name)} is of {found.dtype}")
    numbers = _apart({name: _float(tensor) for name, tensor in imported.tensors.items()})
    module.load_state_dict(numbers, assign=True)
    imported.tensors.update(numbers)
    return module.eval()


def _float(tensor: Tensor) -> Tensor:
    """As it is published: nets compute in float32 once they are loaded."""
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each with memory of its own, as our files hold them: projects tie heads to tables."""
    met: set[int] = set()
    for name, tensor in tensors.items():
        tensors[name] = tensor.clone() if tensor.data_ptr() in met else tensor
        met.add(tensor.data_ptr())
    return tensors


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{', '.join(names[:2])}{more}"


def _pipeline(net: Any, system: System, origin: Origin, tokenizer: str | Path | None) -> Pipeline:
    model = NonAutoregressiveWrapper(net, mask_id=net.codebook_size)
    sampler, guidance = system.settings(net.config)
    return Pipeline(
        model,
        None if tokenizer is None else _tokenizer_for(net, tokenizer),
        class_names(net.num_classes),
        sampler=sampler,
        guidance=guidance,
        run={"imported": origin._asdict()},
        presets={PAPER: Preset(sampler=dict(sampler), guidance=GuidanceConfig(**guidance))},
    )


def _tokenizer_for(net: Any, path: str | Path) -> GridTokenizer:
    """The tokenizer, for images of the net's grid; ValueError if its codes are others."""
    found = load_tokenizer(path)
    groups, per_cell = getattr(net, "codes_per_cell", 1), found.codes_per_cell
    if per_cell != groups and found.codebook_size**per_cell == net.codebook_size**groups:
        raise ValueError(
            f"the tokenizer {path} cuts a cell into {per_cell} codes, the generator draws "
            f'{groups}: import the tokenizer with --sizes of {{"codebook_splits": {groups}}}'
        )
    if found.codebook_size != net.codebook_size:
        raise ValueError(
            f"the tokenizer {path} has {found.codebook_size} codes, the generator draws "
            f"{net.codebook_size}"
        )
    size = found.size_of(net.grid)
    if size[0] != size[1]:
        raise ValueError(f"the tokenizer {path} makes images of {size[0]}x{size[1]} of its grids")
    if size[0] != found.image_size:
        found = found.resized(size[0])
    return found


def class_names(number: int) -> list[str]:
    """Those of ImageNet, as torchvision tells them apart, where there are 1,000; else numbers."""
    if number != 1000:
        return [str(label) for label in range(number)]
    from torchvision.models import ResNet50_Weights

    return list(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])


def read_sizes(path: Path) -> dict[str, Any]:
    """A JSON file of sizes; ValueError if it is none."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file of sizes: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f'{path} is no JSON object of sizes, such as {{"heads": 12}}')
    return found
