"""The places of a comparison's table: which there are, and all that the numbers of each depend on.

Where a preset `<sampler>-<rounds>` lies beside the model (`maskgit tune`), its settings are used;
else those of that sampler's preset with the nearest number of rounds; else the sampler's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from maskgit.evaluation.instruments import instruments
from maskgit.evaluation.request import Evaluation
from maskgit.evaluation.tables import known
from maskgit.evaluation.tuning import preset_name
from maskgit.pipeline.asked import at_least_one
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_hashes
from maskgit.samplers import SAMPLERS, critic_of
from vqgan.registry import options_of

VERSION = 2
"""Of how things are measured: places of another one do not stand in the same table."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What to compare. samplers: none for all that the model can be drawn with.

    longest: seconds of drawing for each place that is not there yet, with fewer samples where they
    would take more; the table says how many each is of. refresh: of the samplers that have it
    (maskgit.model.passes), each number a line of its own.
    """

    run: Path
    samplers: Sequence[str]
    rounds: Sequence[int]
    count: int = 5000
    longest: float = 600.0
    features: str | None = None
    weights: Path | None = None
    judge: Path | None = None
    precision: str = "auto"
    out: Path | None = None
    refresh: Sequence[int] = (1,)
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for number in (self.count, *self.rounds, *self.refresh):
            at_least_one(**{"each of count, rounds and refresh": number})

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.out or self.run / "samplers"


class Place(NamedTuple):
    """One row: a sampler, a number of rounds, and how often the net runs whole."""

    sampler: str
    rounds: int
    refresh: int
    out: Path
    request: Evaluation  # with the settings as they were when all was planned
    origin: str  # where the settings come from
    made_of: dict[str, Any]  # all that the numbers depend on

    @property
    def line(self) -> str:
        """That of `line_of`."""
        return line_of(self.sampler, self.refresh)

    def is_stale(self) -> bool:
        """Whether what is there is of another model or of other settings."""
        path = self.out / "place.json"
        return path.is_file() and known(path, self.made_of) is None

    def row(self) -> Row:
        """What is known of it, with its speed or without."""
        found = known(self.out / "place.json", self.made_of)
        return {
            "sampler": self.sampler,
            "refresh": self.refresh,
            "rounds": self.rounds,
            "count": found["count"],
            "from": found["from"],
            **(known(self.out / "speed.json", self.made_of) or {}),
            "numbers": found["numbers"],
        }


def plan(asked: Comparison, pipeline: Pipeline) -> list[Place]:
    """All places of the table; ValueError if one cannot be measured, or is there but stale."""
    for name in asked.samplers:
        pipeline.settings(sampler=name)  # refuses one that is not there, or whose critic is not
    if max(asked.refresh) > 1 and pipeline.model.self_cond:
        raise ValueError(
            "a self-conditioned model runs whole in every round: refresh can only be 1"
        )
    places = list(_places(asked, pipeline))
    if stale := [str(place.out) for place in places if place.is_stale()]:
        raise ValueError(
            "measured with another model or other settings (a preset of `tune`, for one): "
            f"{', '.join(stale)}: set --out to measure anew"
        )
    return places


def _places(asked: Comparison, pipeline: Pipeline) -> Iterator[Place]:
    request = Evaluation(
        run=asked.run,
        count=asked.count,
        features=asked.features,
        weights=asked.weights,
        judge=asked.judge,
        precision=pipeline.precision,
        batch_size=asked.batch_size,
    )
    found, weights = instruments(request), pipeline_hashes(asked.run)
    metrics = ("fid", "prdc", *(["agreement"] if found["judge"] else []))
    shared = {
        "asked": [VERSION, asked.count, pipeline.precision],
        "with": found,
        "weights": weights,
    }
    for rounds in asked.rounds:
        for sampler in asked.samplers or _allowed(pipeline):
            for refresh in asked.refresh if _has_refresh(sampler) else (1,):
                given, origin = settings_for(pipeline, sampler, rounds, refresh)
                if _is_of_others(pipeline, given, weights):
                    origin += " on other weights"
                options = pipeline.settings(**given)._asdict()  # whatever `tune` writes meanwhile
                name = preset_name(sampler, rounds) + (f"-refresh-{refresh}" if refresh > 1 else "")
                yield Place(
                    sampler,
                    rounds,
                    refresh,
                    out=asked.folder / name,
                    request=replace(request, metrics=metrics, options=options),
                    origin=origin,
                    made_of={"settings": options, **shared},
                )


def _allowed(pipeline: Pipeline) -> list[str]:
    """The samplers whose critic the model has."""
    critics = {name: critic_of(entry) for name, entry in SAMPLERS.items()}
    return [name for name, one in critics.items() if one is None or getattr(pipeline.model, one)]


def _has_refresh(sampler: str) -> bool:
    return "refresh" in options_of(SAMPLERS[sampler])


def settings_for(
    pipeline: Pipeline, sampler: str, rounds: int, refresh: int = 1
) -> tuple[dict[str, Any], str]:
    """The options of Pipeline.settings for a place, and where they come from."""
    cached = {"refresh": refresh} if _has_refresh(sampler) else {}
    there = [
        int(name.removeprefix(f"{sampler}-"))
        for name in pipeline.presets
        if name.startswith(f"{sampler}-") and name.removeprefix(f"{sampler}-").isdecimal()
    ]
    if not there:
        return {"sampler": sampler, "steps": rounds, **cached}, "defaults"
    nearest = min(there, key=lambda tuned: abs(math.log(tuned / rounds)))
    origin = "tuned" if nearest == rounds else f"tuned at {nearest}"
    return {"preset": preset_name(sampler, nearest), "steps": rounds, **cached}, origin


def _is_of_others(pipeline: Pipeline, given: Mapping[str, Any], weights: Mapping[str, str]) -> bool:
    """Whether a preset among the options was tuned on other weights."""
    preset = pipeline.presets.get(given.get("preset", ""))
    return preset is not None and preset.measured.get("weights", weights) != weights


def line_of(sampler: str, refresh: int) -> str:
    """How a line of the table is called."""
    return sampler if refresh == 1 else f"{sampler}, refresh {refresh}"
