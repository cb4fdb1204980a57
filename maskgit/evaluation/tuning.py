"""tune: search a sampler's settings (Optuna) by a number of `evaluate`; keep the best as presets.

RUN/pipeline/presets/<sampler>-<rounds>.yaml
RUN/tuning/<sampler>-<rounds>.log (every trial, so that it continues)
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from maskgit.config.presets import Preset, save_preset
from maskgit.config.sections import GuidanceConfig
from maskgit.evaluation.generator import evaluate
from maskgit.evaluation.instruments import feature_names, instruments
from maskgit.evaluation.metrics import METRICS, OF_SAMPLES, WORST, metric_of
from maskgit.evaluation.request import Evaluation
from maskgit.pipeline.asked import at_least_one
from maskgit.pipeline.drawing import load_pipeline
from maskgit.pipeline.pipeline import Pipeline
from maskgit.pipeline.saved import pipeline_folder, pipeline_hashes
from maskgit.processes import held, this_process
from maskgit.randomness import mixed_seed
from maskgit.samplers import SAMPLERS
from vqgan.registry import choose, options_of


class Range(NamedTuple):
    """Where a number is searched."""

    low: float
    high: float
    log: bool = False


SPACES: dict[str, Range | tuple[str, ...]] = {
    "temperature": Range(0.6, 1.3),
    "choice_temperature": Range(0.5, 20.0, log=True),
    "noise_scale": Range(0.25, 16.0, log=True),
    "eta": Range(0.003, 0.3, log=True),
    "bound": Range(1.0, 30.0, log=True),
    "kind": ("cap", "rescale", "conf"),
    "schedule": ("cosine", "arccos", "linear", "square"),
}
"""The options that are searched, each in the samplers that have it; all others stay as they are."""

SCALES = Range(1.0, 4.0)
GUIDANCES = ("constant", "linear", "power_cosine")
FIRST_SEED = 10**7
"""Trials draw with other seeds than those that `evaluate` reports by default."""


@dataclass(frozen=True)
class Search:
    """What makes a setting good, and how long to search for each preset."""

    run: Path
    metric: str = "fid"
    trials: int = 20
    minutes: float | None = None
    count: int = 1000
    features: str | None = None
    weights: Path | None = None
    precision: str = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        at_least_one(trials=self.trials, count=self.count)


def preset_name(sampler: str, rounds: int) -> str:
    """`confidence-12`."""
    return f"{sampler}-{rounds}"


def run_tuning(search: Search, samplers: Sequence[str], rounds: Sequence[int]) -> Iterator[Path]:
    """A preset for each sampler and number of rounds; yields its path when its search is over."""
    if this_process().num_processes > 1:
        raise ValueError("tune runs on one process")
    try:
        import optuna
    except ImportError as error:
        raise ValueError("tune needs Optuna: pip install 'maskgit-torch[tune]'") from error
    if not OF_SAMPLES.intersection(METRICS[metric_of(search.metric)].sets):
        raise ValueError(f"no sampler changes {search.metric}")
    _check_kind(search)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pipeline = load_pipeline(search.run, search.precision)
    search = replace(search, precision=pipeline.precision)
    for sampler in samplers:
        choose(SAMPLERS, sampler, "sampler")
        pipeline.settings(sampler=sampler)  # refuses one whose critic is not there, before any work
    with held(search.run / "tuning", "tune"):
        for left in (search.run / "tuning").glob("*.log.lock*"):  # Optuna's, of a killed process
            left.unlink()
        for sampler in samplers:
            for steps in rounds:
                yield _Study(search, pipeline, sampler, steps).run()


def _check_kind(search: Search) -> None:
    """ValueError if the number is of a kind of features that is not among those asked for."""
    others = feature_names(Evaluation(features=search.features))[1:]
    name = metric_of(search.metric)
    plain = {name, *METRICS[name].numbers, *([WORST] if others else [])}
    known = plain | {f"{number}_{kind}" for number in plain for kind in others}
    if search.metric not in known:
        raise ValueError(
            f"{search.metric} is of several kinds of features side by side: name them, the usual "
            "one first, such as --features classifier,witness"
        )


def _nearest(value: Any, space: Range | tuple[str, ...]) -> Any:
    """The value (of a ramp, its start), or the nearest in the space; none for a name not in it."""
    value = value[0] if isinstance(value, list | tuple) else value
    if isinstance(space, Range):
        return min(max(float(value), space.low), space.high)
    return value if value in space else None


def _identity(search: Search, options: Mapping[str, Any]) -> str:
    """What trials of one study have in common: metric, networks, the model's weights, the space."""
    asked = Evaluation(run=search.run, features=search.features, weights=search.weights)
    found, weights = instruments(asked), pipeline_hashes(search.run)
    parts = [search.metric, search.count, found, search.precision, weights, options]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{search.metric} of {search.count} samples, {digest[:16]}"


class _Study:
    """The search for one preset."""

    def __init__(self, search: Search, pipeline: Pipeline, sampler: str, steps: int) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        self.search, self.pipeline, self.sampler, self.steps = search, pipeline, sampler, steps
        self.name = preset_name(sampler, steps)
        self.metric = METRICS[metric_of(search.metric)]
        folder = search.run / "tuning"
        backend = JournalFileBackend(str(folder / f"{self.name}.log"))
        self.study = optuna.create_study(
            study_name=f"{self.name}: {_identity(search, self._options())}",
            storage=optuna.storages.JournalStorage(backend),
            direction="minimize" if self.metric.better == "lower" else "maximize",
            load_if_exists=True,
        )
        waiting = self.study.get_trials(states=(optuna.trial.TrialState.WAITING,))
        if not self._completed() and not waiting:  # also where an earlier first trial was killed
            self.study.enqueue_trial(self._own())

    def _own(self) -> dict[str, Any]:
        """The pipeline's own settings, or the sampler's defaults, as the first trial."""
        settings = self.pipeline.settings(sampler=self.sampler, steps=self.steps)
        defaults = {key: known.default for key, known in options_of(SAMPLERS[self.sampler]).items()}
        found = {key: (defaults | settings.sampler)[key] for key in self._options()}
        found |= {
            "scale": settings.guidance.get("scale", 1.0),
            "guidance": settings.guidance.get("schedule"),
        }
        spaces = self._options() | {"scale": SCALES, "guidance": GUIDANCES}
        return {
            key: value
            for key, space in spaces.items()
            if (value := _nearest(found[key], space)) is not None
        }

    def _options(self) -> dict[str, Range | tuple[str, ...]]:
        known = options_of(SAMPLERS[self.sampler])
        return {key: space for key, space in SPACES.items() if key in known}

    def _settings(self, trial: Any) -> dict[str, Any]:
        """A trial's choice -> options of Pipeline.settings."""
        found: dict[str, Any] = {"name": self.sampler, "steps": self.steps}
        for key, space in self._options().items():
            found[key] = (
                trial.suggest_float(key, space.low, space.high, log=space.log)
                if isinstance(space, Range)
                else trial.suggest_categorical(key, space)
            )
        schedule = trial.suggest_categorical("guidance", GUIDANCES)
        scale = trial.suggest_float("scale", SCALES.low, SCALES.high)
        return {"sampler": found, "guidance": {"scale": scale, "schedule": schedule}}

    def run(self) -> Path:
        """Trials until the budget is spent; the best so far is always kept."""
        import optuna

        end = None if self.search.minutes is None else time.monotonic() + 60 * self.search.minutes
        path = self._keep() if self._completed(failed=False) else None
        while (number := self._completed()) < self.search.trials:
            if path is not None and end is not None and time.monotonic() > end:
                break
            # a sampler of its own for each trial, so that a search that was stopped goes on alike
            self.study.sampler = optuna.samplers.TPESampler(
                seed=mixed_seed("trial", self.steps, number) % 2**32
            )
            trial = self.study.ask()
            settings = self._settings(trial)
            value = self._value(settings)
            trial.set_user_attr("settings", settings)
            line = f"{self.name}: trial {number + 1} of {self.search.trials}: "
            line += f"{self.search.metric} {value:.4g}"
            if math.isfinite(value):
                self.study.tell(trial, value)
                path = self._keep()
                line += f", best {self.study.best_value:.4g}"
            else:
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            print(line, file=sys.stderr, flush=True)
        if path is None:
            raise ValueError(f"{self.name}: no trial has a finite {self.search.metric}")
        return path

    def _completed(self, *, failed: bool = True) -> int:
        """How many trials are done, also those without a finite number; killed ones are not."""
        import optuna

        states = (
            optuna.trial.TrialState.COMPLETE,
            *([optuna.trial.TrialState.FAIL] if failed else []),
        )
        return len(self.study.get_trials(states=states))

    def _value(self, settings: Mapping[str, Any]) -> float:
        search = self.search
        request = Evaluation(
            run=search.run,
            count=search.count,
            seed=FIRST_SEED,
            metrics=(metric_of(search.metric),),
            features=search.features,
            weights=search.weights,
            precision=search.precision,
            batch_size=search.batch_size,
            options=dict(settings),
            pictures=False,
        )
        results = evaluate(request)
        assert results is not None  # there is but one process
        return results.numbers[search.metric].value

    def _keep(self) -> Path:
        """Write the best trial as a preset."""
        best = self.study.best_trial
        # with all that stays as it is
        settings = self.pipeline.settings(**best.user_attrs["settings"])
        measured = {
            self.search.metric: best.value,
            "count": self.search.count,
            "trials": self._completed(),
            "weights": pipeline_hashes(self.search.run),
            "precision": self.search.precision,
        }
        preset = Preset(
            sampler=settings.sampler,
            guidance=GuidanceConfig(**settings.guidance),
            measured=measured,
        )
        return save_preset(pipeline_folder(self.search.run), self.name, preset)
