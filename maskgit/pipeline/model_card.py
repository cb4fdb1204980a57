"""The card of a shared model: a picture, how to draw, its numbers, data, training, versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from maskgit.model.backbones import num_parameters
from maskgit.pipeline.pipeline import Pipeline
from vqgan.registry import listed, split

LICENCES = {
    "fashion_mnist": ("MIT", "https://github.com/zalandoresearch/fashion-mnist"),
    "mnist5k": ("CC BY-SA 3.0", "http://yann.lecun.com/exdb/mnist/"),
    "openmoji": ("CC BY-SA 4.0", "https://openmoji.org"),
    "imagenet": ("for non-commercial research only", "https://image-net.org"),
}
"""data source -> the licence of its images, and where they come from."""
LIBRARIES = ("torch", "x-transformers", "vector-quantize-pytorch", "safetensors")


def card(pipeline: Pipeline, run: Path | None, name: str, *, on_hub: bool) -> str:
    """README.md of a model of that name, which is drawn by `hub:name` or its folder's name."""
    source = f"hub:{name}" if on_hub else name
    parts = [
        _head(),
        _what(pipeline, name),
        _draw(pipeline, source, name if on_hub else f"./{name}"),
    ]
    parts += [_numbers(run), _origin(pipeline.run), _data(pipeline)]
    parts += [_training(pipeline, run), _versions()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head() -> str:
    """What the hub reads."""
    lines = ["library_name: maskgit-torch", "pipeline_tag: unconditional-image-generation"]
    return "\n".join(["---", *lines, "tags: [maskgit, image-generation]", "---"])


def _what(pipeline: Pipeline, name: str) -> str:
    height, width = pipeline.tokenizer.size_of(pipeline.net.grid)
    sampler, options = split(pipeline.sampler, "sampler")
    count = num_parameters(pipeline.model) / 1e6
    return (
        f"# {name.rpartition('/')[2]}\n\n![a row for each class](grid.png)\n\n"
        f"Images of {height} x {width} pixels by class, drawn by filling a grid of codes "
        f"(MaskGIT): "
        f"{count:.3g} M parameters, {pipeline.net.grid[0]} x {pipeline.net.grid[1]} cells of "
        f"{pipeline.tokenizer.codebook_size} codes, the `{sampler}` sampler"
        f"{_options(options)}{_options(pipeline.guidance, ' with guidance')}. The picture shows "
        f"seeds 0, 1, ..., not picked.\n\nClasses: {listed(pipeline.class_names)}."
    )


def _options(options: Mapping[str, Any], before: str = "") -> str:
    told = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"{before} ({told})" if told else ""


def _draw(pipeline: Pipeline, source: str, name: str) -> str:
    first = pipeline.class_names[0]
    return (
        "## Draw\n\n```bash\npip install maskgit-torch\n"
        f"maskgit sample {source} --out grid.png\n```\n\n"
        "```python\nfrom maskgit import Pipeline\n\n"
        f"pipeline = Pipeline.from_pretrained({name!r})\n"
        f"images = pipeline(class_labels=[{first!r}]).images  # PIL\n```"
    )


def _numbers(run: Path | None) -> str:
    """The table of `maskgit evaluate`, if it has been run."""
    if run is None or not (results := run / "evaluation" / "results.json").is_file():
        return ""
    found = json.loads(results.read_text())
    rows = [
        (name, _number(row["value"], row.get("half_width")), _number(row.get("floor")))
        for name, row in found["numbers"].items()
    ]
    about = f"{found['samples']['count']} samples, {found['date'][:10]}"
    where = found.get("machine")
    lines = table(("", "this model", "real images"), rows)
    return (
        f"## Numbers\n\n{lines}\n\nBy `maskgit evaluate`: {about}{f', {where}' if where else ''}."
    )


def _number(value: float | None, half_width: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" + ("" if half_width is None else f" ± {half_width:.2g}")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _origin(run: Mapping[str, Any]) -> str:
    """Of imported weights: whose they are."""
    if "imported" not in run:
        return ""
    words = "Weights of [{title}]({url}), licence {licence}, read from `{file}`; not trained here."
    return "## Origin\n\n" + words.format(**run["imported"])


def _data(pipeline: Pipeline) -> str:
    if not pipeline.data:
        return ""
    name, options = split(pipeline.data["source"], "data source")
    told = LICENCES.get(name)
    licence = (
        f"licence: {told[0]} ({told[1]})"
        if told
        else "whose licence is not known here: say it before you publish"
    )
    return f"## Data\n\n`{name}`{_options(options)}, {licence}."


def _training(pipeline: Pipeline, run: Path | None) -> str:
    """The steps and their time, and the config, as far as the run knows them."""
    train = pipeline.run.get("train")
    if not train:
        return ""
    seconds = training_seconds(pipeline, run / "metrics.jsonl") if run else 0.0
    took = f", {seconds / 60:.3g} minutes of steps" if seconds else ""
    if run is not None and (machine := run / "machine.txt").is_file():
        took += f" on {machine.read_text().strip()}"
    config = yaml.safe_dump(dict(pipeline.run), sort_keys=False).rstrip()
    return (
        f"## Training\n\n{train['steps']} steps of {train['batch_size']} images{took}.\n\n"
        f"<details><summary>config</summary>\n\n```yaml\n{config}\n```\n\n</details>"
    )


def training_seconds(pipeline: Pipeline, metrics: Path) -> float:
    """By the speed of each stretch of steps in metrics.jsonl; 0 if there is none."""
    if not metrics.is_file():
        return 0.0
    cells = pipeline.run["train"]["batch_size"] * pipeline.net.grid[0] * pipeline.net.grid[1]
    seconds, before = 0.0, 0
    for line in metrics.read_text().splitlines():
        row = json.loads(line) if line.endswith("}") else {}
        if row.get("cells_per_second"):
            seconds += (row["step"] - before) * cells / row["cells_per_second"]
            before = row["step"]
    return seconds


def _versions() -> str:
    found = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"Made with maskgit {_own()}, {found}, Python {platform.python_version()}."


def _own() -> str:
    from maskgit import __version__

    return __version__
