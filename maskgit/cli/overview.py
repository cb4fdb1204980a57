"""What there is to choose from, and what a folder or file holds, in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskgit.config.loading import known_configs, load
from maskgit.config.presets import load_presets
from maskgit.config.sections import DecoderConfig, MaskGITConfig, TokenizerConfig
from maskgit.data.manifest import read_manifest
from maskgit.pipeline.saved import (
    check_header,
    class_names_of,
    data_of,
    pipeline_folder,
    run_of,
    settings_of,
)
from maskgit.pipeline.shipped import FOLDER, shipped_names
from maskgit.training.checkpoints import checkpoints
from maskgit.training.metrics_log import read_metrics
from vqgan.registry import listed, options_of
from vqgan.weights import weights_of


def _tables() -> dict[str, Mapping[str, Any]]:
    from maskgit.data.sources import SOURCES
    from maskgit.editing.operations import EDITS
    from maskgit.evaluation.features import FEATURES
    from maskgit.evaluation.metrics import METRICS
    from maskgit.evaluation.tokenizer import PIXEL_METRICS
    from maskgit.samplers import SAMPLERS
    from maskgit.samplers.guidance import GUIDANCE_SCHEDULES
    from maskgit.schedules import SCHEDULES
    from maskgit.training.tasks import TASKS
    from vqgan.discriminator import DISCRIMINATORS
    from vqgan.losses import ADVERSARIAL, PIXEL_LOSSES
    from vqgan.perceptual import PERCEPTUAL
    from vqgan.quantizers import QUANTIZERS

    return {
        "tasks (task)": TASKS,
        "data sources (data.source)": SOURCES,
        "quantizers (model.quantizer)": QUANTIZERS,
        "pixel losses (loss.pixel)": PIXEL_LOSSES,
        "perceptual losses (loss.perceptual)": PERCEPTUAL,
        "discriminators (loss.adversarial.discriminator)": DISCRIMINATORS,
        "adversarial losses (loss.adversarial.loss)": ADVERSARIAL,
        "mask schedules (loss.schedule, sampler.schedule)": SCHEDULES,
        "samplers (sampler)": SAMPLERS,
        "edits (edit)": EDITS,
        "guidance schedules (guidance.schedule)": GUIDANCE_SCHEDULES,
        "metrics (evaluate --metrics)": {name: metric.compute for name, metric in METRICS.items()},
        "metrics of a tokenizer (evaluate --metrics)": {
            name: metric.compute for name, metric in PIXEL_METRICS.items()
        },
        "feature networks (evaluate --features)": FEATURES,
    }


def _row(name: str, entry: Any, given: Iterable[str] = ()) -> str:
    """One line: the name, its options, and what it says of itself."""
    if not callable(entry) or isinstance(entry, tuple):
        return f"  {name}"
    known = options_of(entry, given).values()
    keywords = [parameter for parameter in known if parameter.kind is parameter.KEYWORD_ONLY]
    options = ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default}" for p in keywords
    )
    says = " ".join((inspect.getdoc(entry) or "").split("\n\n")[0].split())
    return f"  {name}" + (f" ({options})" if options else "") + f": {says}"


def list_tables() -> str:
    """Every config of the package, and every table with its entries and their options."""
    from maskgit.importing import IMPORTERS
    from maskgit.model.backbones import BACKBONES, SHAPE

    lines = ["trained models (sample, edit, evaluate, ...)"]
    lines += [f"  {name}: {', '.join(class_names_of(FOLDER / name))}" for name in shipped_names()]
    lines += ["", "configs (train)", *(f"  {name}" for name in known_configs())]
    for title, table in _tables().items():
        lines += ["", title, *(_row(name, entry) for name, entry in table.items())]
    lines += ["", "published weights (import)"]
    lines += [f"  {name}: {system.title}, {system.says}" for name, system in IMPORTERS.items()]
    lines += ["", "backbones (model, critic)"]
    lines += [_row(name, entry, SHAPE) for name, entry in BACKBONES.items()]
    return "\n".join(lines)


def describe_path(path: Path, overrides: Sequence[str] = ()) -> str:
    """What a run, a pipeline, a code cache, a weights file or a config holds, this with overrides.

    FileNotFoundError if it is none, ValueError for overrides of what is no config.
    """
    if path.suffix == ".yaml" or str(path) in known_configs():
        return _describe_config(path, overrides)
    if overrides:
        raise ValueError(f"{path} is no config: {overrides[0]} has nothing to override")
    if path.is_file():
        return _describe_weights(path)
    if (path / "config.yaml").is_file():
        return _describe_run(path)
    if (path / "manifest.json").is_file():
        return _describe_codes(path)
    found = [path / f"{name}.safetensors" for name in ("model", "tokenizer")]
    if described := [_describe_weights(file) for file in found if file.is_file()]:
        return "\n".join(described + _cost_of_an_image(path) + _how(path))
    raise FileNotFoundError(
        f"{path} is no run, pipeline, code cache, weights file or config of ours"
    )


def _describe_weights(path: Path) -> str:
    from vqgan.classifier import Classifier
    from vqgan.tokenizers import load_tokenizer
    from vqgan.weights import load_weights

    config, tensors = load_weights(path, None)
    kind = config["kind"]  # before its cost is told: a header that the tensors belie is refused
    if kind == "tokenizer":
        load_tokenizer(path)
    elif kind == "classifier":
        Classifier.load(path)
    else:
        check_header(path, kind)
    count = sum(tensor.numel() for tensor in tensors.values())
    lines = [f"{path}: {kind}, {count / 1e6:.2f} M numbers in {len(tensors)} tensors"]
    lines += _origin(config.get("imported") or config.get("run", {}).get("imported"))
    lines += [f"  {key}: {value!s:.1000}" for key, value in config["model"].items()]
    return "\n".join(lines + cost(kind, config["model"]))


def _cost_of_an_image(folder: Path) -> list[str]:
    """With the pipeline's own sampler settings: the generator's rounds, and the decoder."""
    if not (folder / "config.json").is_file():
        return []
    from maskgit.samplers import rounds_of
    from vqgan.weights import load_weights

    def cost_of(name: str, kind: str, line: str) -> float:
        lines = cost(kind, load_weights(folder / f"{name}.safetensors", kind)[0]["model"])
        return next(float(each.split()[-4]) for each in lines if each.startswith(f"  {line}:"))

    sampler, guidance = settings_of(folder)
    grid = load_weights(folder / "model.safetensors", "maskgit")[0]["model"]["grid"]
    rounds = rounds_of(sampler, grid[0] * grid[1])
    is_guided = guidance.get("scale", 1.0) != 1
    giga = rounds * (1 + is_guided) * cost_of("model", "maskgit", "a round")
    decoder = ""
    if (folder / "tokenizer.safetensors").is_file():
        giga += cost_of("tokenizer", "tokenizer", "decoder")
        decoder = " and the decoder once"
    twice = ", each with and without its label," if is_guided else ""
    return [f"an image: {rounds} rounds{twice}{decoder}, {giga:.3g} GFLOP"]


def _how(folder: Path) -> list[str]:
    """How a pipeline was made, as far as it says, what it draws with, and where its card is."""
    if not (folder / "config.json").is_file():
        return []
    run, data = run_of(folder), data_of(folder)
    sampler, guidance = settings_of(folder)
    lines = [f"classes: {listed(class_names_of(folder), 20)}"]
    lines += [f"drawn by default with {sampler}, guidance {guidance or 'none'}"]
    if train := run.get("train"):
        about = {key: train[key] for key in ("learning_rate", "precision") if key in train}
        source = f", on {data['source']}" if data else ""
        lines += [f"trained for {train['steps']} steps of {train['batch_size']}{source}: {about}"]
    card = folder / "README.md"
    return [*lines, *([f"its card: {card}"] if card.is_file() else [])]


def _origin(imported: Mapping[str, Any] | None) -> list[str]:
    """Whence imported weights come, in a line."""
    if imported is None:
        return []
    return [
        "  published by {title} ({url}), licence {licence}: {file}, sha256 {sha256}".format(
            **imported
        )
    ]


def cost(kind: str, model: Mapping[str, Any]) -> list[str]:
    """Parameters and operations of an image, of tokenizer or generator, without computing."""
    import torch

    from maskgit.model.backbones import make_backbone
    from vqgan.tokenizers import make_tokenizer
    from vqgan.weights import check_numbers, without_memory

    if kind not in ("tokenizer", "maskgit"):
        return []
    check_numbers(model, f"a {kind}")
    if kind == "maskgit":
        with without_memory():
            net = make_backbone(model)
            codes = torch.zeros(1, *net.grid, dtype=torch.int64)
            labels = torch.zeros(1, dtype=torch.int64)
            return [_line("a round", net, lambda: net(codes, labels))]
    with without_memory():
        tokenizer = make_tokenizer(model)
    encoder, decoder = tokenizer.encoder, tokenizer.decoder
    size = tokenizer.image_size
    images = torch.zeros(1, tokenizer.channels, size, size, device="meta")
    latents = encoder(images)
    return [
        _line("encoder", encoder, lambda: encoder(images)),
        _line("decoder", decoder, lambda: decoder(latents)),
        "  quantizer: "
        f"{sum(t.numel() for t in tokenizer.quantizer.state_dict().values()) / 1e6:.2f} M numbers",
        f"  codes: {tokenizer.codebook_size} in a grid of "
        f"{tokenizer.grid[0]}x{tokenizer.grid[1]} for "
        f"{size}x{size} pixels" + f" (f{tokenizer.downscale})" * tokenizer.has_places,
    ]


def _line(name: str, module: Any, work: Callable[[], object]) -> str:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from maskgit.model.backbones import num_parameters

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    giga = counter.get_total_flops() / 1e9
    return f"  {name}: {num_parameters(module) / 1e6:.2f} M parameters, {giga:.3g} GFLOP an image"


def _describe_config(path: Path, overrides: Sequence[str]) -> str:
    """What a config would train, and what an image costs it."""
    config = load(path, overrides)
    lines = [
        f"{path}: {config.task}, {config.train.length} of {config.train.batch_size}, "
        f"into {config.run}"
    ]
    if isinstance(config, DecoderConfig):
        told = {"generator": config.generator}
    else:
        told = config.model.model_dump()
    lines += [f"  {key}: {value}" for key, value in told.items()]
    if isinstance(config, TokenizerConfig):
        lines += [*cost("tokenizer", _tokenizer_model(config)), *_cost_of_judging(config)]
    if isinstance(config, MaskGITConfig) and (shape := _shape_of_codes(config)) is not None:
        lines += cost("maskgit", {**shape, **config.model.model_dump()})
    return "\n".join(lines)


def _cost_of_judging(config: TokenizerConfig) -> list[str]:
    """Of a discriminator, if the config has one."""
    import torch

    from vqgan.discriminator import DISCRIMINATORS
    from vqgan.registry import build
    from vqgan.weights import check_numbers, without_memory

    if config.loss.adversarial is None:
        return []
    data = config.data
    check_numbers(config.loss.adversarial.discriminator, "a discriminator")
    with without_memory():
        net = build(
            DISCRIMINATORS, config.loss.adversarial.discriminator, "discriminator", data.channels
        )
        images = torch.zeros(1, data.channels, data.image_size, data.image_size)
        return [_line("discriminator", net, lambda: net(images))]


def _tokenizer_model(config: TokenizerConfig) -> dict[str, Any]:
    return {
        "image_size": config.data.image_size,
        "channels": config.data.channels,
        **config.model.model_dump(),
    }


def _shape_of_codes(config: MaskGITConfig) -> dict[str, Any] | None:
    """Of a generator without its classes: by its tokenizer's run, or the package's config of it."""
    from vqgan.tokenizers import make_tokenizer
    from vqgan.weights import check_numbers, load_weights, without_memory

    try:
        model = load_weights(weights_of(config.tokenizer, "tokenizer"), "tokenizer")[0]["model"]
    except FileNotFoundError:
        tokenizers = [c for c in map(load, known_configs()) if isinstance(c, TokenizerConfig)]
        found = [_tokenizer_model(c) for c in tokenizers if c.run == config.tokenizer]
        if not found:
            return None
        model = found[0]
    check_numbers(model, "a tokenizer")
    with without_memory():
        tokenizer = make_tokenizer(model)
    keys = ("codebook_size", "grid", "codes_per_cell", "code_levels")
    return {"num_classes": 0, **{key: getattr(tokenizer, key) for key in keys}}


def _describe_run(path: Path) -> str:
    config = load(path / "config.yaml")
    found = checkpoints(path)
    lines = [f"{path}: a {config.task} run of {config.train.steps} steps"]
    lines.append(f"  checkpoints: {', '.join(p.name for p in found) or 'none yet'}")
    latest: dict[str, Any] = {}
    for row in read_metrics(path / "metrics.jsonl"):
        latest |= row
    lines += [f"  {key}: {value:.5g}" for key, value in latest.items()]
    if presets := load_presets(pipeline_folder(path)):
        lines.append(f"  presets: {', '.join(presets)}")
    for name in ("tokenizer.safetensors", "classifier.safetensors", "pipeline/model.safetensors"):
        if (path / name).is_file():
            lines.append(_describe_weights(path / name))
    return "\n".join(lines)


def _describe_codes(path: Path) -> str:
    manifest = read_manifest(path)
    lines = [
        f"{path}: codes of {manifest['source']} by tokenizer {manifest['tokenizer_sha256'][:12]}"
    ]
    lines.append(
        f"  codebook_size: {manifest['codebook_size']}; transform: {manifest['transform']}"
    )
    lines.append(f"  classes: {listed(manifest['class_names'], 20)}")
    for split, entry in manifest["splits"].items():
        lines.append(
            f"  {split}: {sum(entry['shards'])} images in {len(entry['shards'])} shards, "
            f"{entry['skipped']} skipped"
        )
    return "\n".join(lines)
