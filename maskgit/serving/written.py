"""The command and the Python that make the same pictures as the page did, to the last bit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from maskgit.pipeline import Pipeline, parse_labels
from maskgit.serving.asked import DrawAsked, EditAsked

OPTIONS = {"preset": "preset", "sampler": "sampler", "steps": "steps", "guidance": "guidance",
           "temperature": "temperature"}  # fmt: skip
"""A setting -> the option of the command line."""


def draw_command(asked: DrawAsked, pipeline: Pipeline, run: str, precision: str) -> str:
    """`maskgit sample ...` that draws this grid, its strip and its moving picture."""
    words = ["maskgit", "sample", run, *_labels_words(asked.labels, pipeline.class_names)]
    words += ["--per-label", str(asked.per_label), "--seed", str(asked.seed)]
    words += _setting_words(asked.drawing.given, precision)
    words += ["--out", "grid.png", "--strip", "strip.png", "--gif", "fill.gif"]
    return shlex.join(words)


def edit_command(asked: EditAsked, pipeline: Pipeline, run: str, precision: str) -> str:
    """`maskgit edit ...` of the picture before.png, and mask.png if it was painted."""
    words = ["maskgit", "edit", asked.what, run, "before.png"]
    [label] = _label_texts([asked.label], pipeline.class_names)
    words += ["--label", label, "--seed", str(asked.seed)]
    for key, value in asked.own.items():
        text = "mask.png" if key == "mask" else _text(value)
        words += [f"--{key}", text]
    words += _setting_words(asked.drawing.given, precision)
    words += ["--out", "edited.png", "--strip", "strip.png", "--gif", "fill.gif"]
    return shlex.join(words)


def draw_python(asked: DrawAsked, pipeline: Pipeline, run: str, precision: str) -> str:
    """The same images by the library."""
    names = _python_labels(asked.labels, pipeline.class_names)
    per_label = asked.per_label
    many = f"[label for label in {names} for _ in range({per_label})]" if per_label > 1 else names
    count = len(asked.labels) * per_label
    lines = [
        *_loading("from maskgit import Pipeline", pipeline, run, precision),
        f"labels = {many}",
        f"seeds = range({asked.seed}, {asked.seed + count})",
        f"images = pipeline.generate(labels, seeds{_python_options(asked.drawing.given)})",
        "for seed, image in zip(seeds, images):",
        '    image.save(f"{seed}.png")',
    ]
    return "\n".join(lines) + "\n"


def edit_python(asked: EditAsked, pipeline: Pipeline, run: str, precision: str) -> str:
    """The same edit by the library."""
    [label] = _label_texts([asked.label], pipeline.class_names)
    own = {key: value for key, value in asked.own.items() if key != "mask"}
    options = _python_options({"label": label, "seed": asked.seed, **own})
    mask = ', mask=Image.open("mask.png")' if asked.mask is not None else ""
    settings = _python_options(asked.drawing.given)
    first = "from PIL import Image\n\nfrom maskgit import Pipeline, edit"
    lines = [
        *_loading(first, pipeline, run, precision),
        'image = Image.open("before.png")',
        f"[edited] = edit(pipeline, {asked.what!r}, image{options}{mask}{settings})",
        'edited.save("edited.png")',
    ]
    return "\n".join(lines) + "\n"


def _loading(imports: str, pipeline: Pipeline, run: str, precision: str) -> list[str]:
    load = f"pipeline = Pipeline.from_pretrained({run!r})"
    if pipeline.device.type != "cpu" or precision != "fp32":
        load += f".to({str(pipeline.device)!r}, precision={precision!r})"
    return [imports, "", load]


def _labels_words(labels: Sequence[int], names: Sequence[str]) -> list[str]:
    return ["--labels", ",".join(_label_texts(labels, names))]


def _label_texts(labels: Sequence[int], names: Sequence[str]) -> list[str]:
    """Names, where they mean these labels alone and together; else numbers."""
    texts = [names[label] for label in labels]
    numbers = [f"#{label}" if str(label) in names else str(label) for label in labels]
    return texts if _means(texts, labels, names) else numbers


def _means(texts: Sequence[str], labels: Sequence[int], names: Sequence[str]) -> bool:
    try:
        together = parse_labels(",".join(texts), names)
        alone = [parse_labels(text, names) for text in texts]
    except ValueError:
        return False
    plain = not any(text.startswith("-") for text in texts)
    return plain and together == list(labels) and alone == [[label] for label in labels]


def _python_labels(labels: Sequence[int], names: Sequence[str]) -> str:
    texts = [names[label] for label in labels]
    return repr(texts if _means(texts, labels, names) else list(labels))


def _setting_words(given: Mapping[str, Any], precision: str) -> list[str]:
    words = [word for key, value in given.items() for word in (f"--{OPTIONS[key]}", _text(value))]
    return words + (["--precision", precision] if precision != "fp32" else [])


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)


def _python_options(given: Mapping[str, Any]) -> str:
    return "".join(f", {key}={value!r}" for key, value in given.items())
