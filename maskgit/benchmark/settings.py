"""What the wrapper's settings are worth: each trained for as long on the same codes, then measured.

out/settings/<setting>-<seed>/ (runs and their results)
out/settings/settings.json  settings.md  settings.png (a row for each)

How many steps fit is measured first, all settings in turn, and kept: what the machine does later
hits no setting more than another. Run again, it continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from maskgit.benchmark.fair import measured, seconds_a_step, turn, with_perceptual, write_table
from maskgit.benchmark.timing import Work
from maskgit.config.loading import load
from maskgit.config.sections import Config, MaskGITConfig
from maskgit.data.pixels import save_png
from maskgit.data.tokenization import tokenize_dataset
from maskgit.evaluation.request import Evaluation
from maskgit.evaluation.tables import kept, shown
from maskgit.pictures import image_grid
from maskgit.pipeline.drawing import load_pipeline
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.training.trainer import train

METRICS = ("bits", "agreement", "fid", "prdc")
COLUMNS = {
    "bits_per_code": "bits a code",
    "class_agreement": "class agreement",
    "fid": "FID",
    "coverage": "coverage",
}
NOISES = (1.0, 4.0, 10.0)
"""Noise scales of the critic sampler, of which the best is taken, by the FID of other seeds."""


class Stage(NamedTuple):
    """A config of the data set with overrides, trained for a share of the time."""

    name: str
    overrides: tuple[str, ...] = ()
    share: float = 1.0


SETTINGS: dict[str, tuple[Stage, ...]] = {
    "plain": (Stage("maskgit"),),
    "self-conditioning": (Stage("maskgit", ("loss.self_cond=true",)),),
    "noise": (Stage("maskgit", ("loss.no_replace_prob=0.1", "loss.random_token_prob=0.1")),),
    "mdlm": (Stage("maskgit", ("loss.use_simple_mdlm_loss_weight=true",)),),
    "self-critic": (Stage("maskgit", ("loss.self_token_critic=true",)),),
    "token-critic": (Stage("maskgit", (), 2 / 3), Stage("critic", (), 1 / 3)),
}
WITH_CRITIC = {"self-critic": "self_critic", "token-critic": "critic"}
"""The settings with a critic, and the sampler that asks it."""


class Place(NamedTuple):
    """Where everything lies; `common`: overrides of all generators and critics, for tests."""

    data: str
    out: Path
    common: tuple[str, ...] = ()

    def config(self, stage: Stage, setting: str, seed: int, extra: Sequence[str] = ()) -> Config:
        """The config of a stage."""
        folder = self.out / f"{setting}-{seed}"
        runs = {
            "maskgit": [f"tokenizer={self.run('vqgan')}"],
            "critic": [f"generator={folder / 'maskgit'}"],
        }
        given = [
            f"run={folder / stage.name}",
            f"codes={self.run('codes')}",
            f"seed={seed}",
            *runs[stage.name],
        ]
        return load(f"{self.data}/{stage.name}", [*given, *self.common, *stage.overrides, *extra])

    def run(self, name: str) -> Path:
        """A run that all settings share."""
        return self.out / name


def run_settings(
    minutes: float, seeds: int, count: int, out: Path, data: str = "fashion_mnist"
) -> str:
    """Train all SETTINGS for `minutes` each, with so many seeds, and measure them -> a table."""
    place = Place(data, out / "settings")
    perceptual = with_perceptual(data, place.run("perceptual"))
    train(load(f"{data}/vqgan", [f"run={place.run('vqgan')}", *perceptual]))
    tokenize_dataset(place.run("vqgan"), place.run("codes"))
    train(load(f"{data}/classifier", [f"run={place.run('classifier')}"]))
    return compare(place, minutes, seeds, count)


def compare(place: Place, minutes: float, seeds: int, count: int) -> str:
    """The settings on a tokenizer, codes and classifier that are there already."""
    steps = _steps(place, 60 * minutes)
    lines: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        for setting, stages in SETTINGS.items():
            for stage in stages:
                number = steps[f"{setting} {stage.name}"]
                every = [f"train.{key}={number}" for key in ("eval_every", "preview_every")]
                save = f"train.save_every={max(1, number // 3)}"
                train(place.config(stage, setting, seed, [f"train.steps={number}", *every, save]))
            for name, sampler in _samplers(place, setting, seed, count):
                numbers = _measured(place, setting, seed, name, sampler, count)
                lines.setdefault(name, []).append(numbers | {"steps": _words(steps, setting)})
                _write(lines, place.out, count)
    _draw(place, lines)
    return _write(lines, place.out, count)


def _words(steps: Mapping[str, int], setting: str) -> str:
    return " + ".join(str(steps[f"{setting} {stage.name}"]) for stage in SETTINGS[setting])


def _steps(place: Place, seconds: float) -> dict[str, int]:
    """How many steps of each stage fit."""
    scratch = place.out / "timed"
    stages = {
        f"{setting} {stage.name}": (setting, stage)
        for setting, found in SETTINGS.items()
        for stage in found
    }

    def works() -> Mapping[str, Work]:
        found = {}
        for key, (setting, stage) in stages.items():
            extra = []
            if stage.name == "critic":  # timed on a generator of one step
                few = ["train.steps=1", "train.max_eval_images=100", f"run={scratch}"]
                train(place.config(SETTINGS[setting][0], setting, 0, few))
                extra = [f"generator={scratch}"]
            found[key] = turn(place.config(stage, setting, 0, extra), scratch)
        return found

    times = seconds_a_step(works, place.out / "seconds.json", seconds)
    return {
        key: max(1, int(stage.share * seconds / times[key])) for key, (_, stage) in stages.items()
    }


def _samplers(place: Place, setting: str, seed: int, count: int) -> Iterator[tuple[str, Any]]:
    """(line, sampler): the config's own, and for a critic its own with the best noise."""
    yield (f"{setting}, not asked" if setting in WITH_CRITIC else setting), None
    if setting in WITH_CRITIC:
        few = max(10, count // 4)

        def fid(noise: float) -> float:
            found = _measured(place, setting, 0, f"noise {noise}", asking(noise), few, first=10**6)
            return float(found["fid"]["value"])

        def asking(noise: float) -> dict[str, Any]:
            return {"name": WITH_CRITIC[setting], "noise_scale": noise}

        yield setting, asking(min(NOISES, key=fid))


def _run_of(place: Place, setting: str, seed: int) -> Path:
    return place.out / f"{setting}-{seed}" / SETTINGS[setting][-1].name


def _options(place: Place, sampler: Any) -> dict[str, Any]:
    """The same guidance for every setting; the sampler is the config's, if no other is given."""
    config = cast(MaskGITConfig, load(f"{place.data}/maskgit"))
    return {"sampler": sampler or config.sampler, "guidance": config.guidance.model_dump()}


def _measured(
    place: Place, setting: str, seed: int, name: str, sampler: Any, count: int, first: int = 0
) -> dict[str, Any]:
    """The numbers of `evaluate`, measured unless they are there."""
    run = _run_of(place, setting, seed)
    out = run.parent / name.replace(" ", "-").replace(",", "")
    request = Evaluation(
        run=run,
        count=count,
        seed=first,
        metrics=METRICS if not first else ("fid",),
        features="classifier",
        weights=place.run("classifier"),
        # a pipeline of the critic task asks its critic by default
        options=_options(place, sampler),
    )

    def measure() -> dict[str, Any]:
        found = measured(request, out).as_json()
        return dict(found["numbers"]) | {"sampler": found["samples"]["sampler"]}

    made_of = {"weights": pipeline_hashes(run), "options": request.options}
    return kept(out / "numbers.json", made_of | {"count": count, "seed": first}, measure)


@torch.no_grad()
def _draw(place: Place, lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """settings.png: a row of ten classes for each setting by its sampler, the same seeds in all."""
    rows = []
    for setting in SETTINGS:
        pipeline = load_pipeline(_run_of(place, setting, 0))
        labels = [i % len(pipeline.class_names) for i in range(10)]
        rows += list(
            pipeline.stream(labels, range(10), **_options(place, lines[setting][0]["sampler"]))
        )
    save_png(
        image_grid(torch.stack(rows), num_columns=10, row_names=list(SETTINGS)),
        place.out / "settings.png",
    )


def _write(lines: Mapping[str, Sequence[Mapping[str, Any]]], out: Path, count: int) -> str:
    """settings.json and settings.md."""
    first = next(iter(lines.values()))[0]
    floors = [shown(first[key]["floor"]) for key in COLUMNS]
    table = write_table(lines, COLUMNS, out, "settings", {"count": count}, floors)
    return "\n".join([table, "", *(str(out / f"settings.{end}") for end in ("json", "md", "png"))])
