"""How the two sides of `quality` are measured: alike, in several kinds of features.

The settings of either side are chosen beforehand in a scout: a short sampling with other seeds,
seen by a classifier that no loss, no tuning and no number of the table sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maskgit.benchmark.fair import measured
from maskgit.config.loading import load
from maskgit.evaluation.generator import told
from maskgit.evaluation.image_sets import from_npz, from_source, reconstructions
from maskgit.evaluation.metrics import METRICS, estimate
from maskgit.evaluation.plan import data_of
from maskgit.evaluation.report import Number
from maskgit.evaluation.request import Evaluation
from maskgit.training.trainer import train

MEASURED = ("fid", "prdc", "agreement", "nearest", "c2st")
AGAIN = "c2st_reconstructions"
SCOUT = ("seed=3", "model.width=32", "model.kernel_size=3")
"""Of the witness's config: the eyes of the scout are neither the witness's nor the judge's."""
FEW = 2000
"""Samples that a choice is judged by."""
SCOUTED_SEED, SEED = 10**7, 0
"""The first seed of the samples that settings are chosen by, and of those that are measured."""


@dataclass(frozen=True)
class Side:
    """What draws, and which settings it may choose among; the first are its own."""

    name: str
    tokenizer: Any
    """A GridTokenizer, or what encodes and decodes as one."""
    choices: Sequence[Any]
    draw: Callable[[Any, int, int, Path], Path]
    """(choice, count, seed, path) -> samples of all classes in turn, in an .npz file."""


@dataclass(frozen=True)
class Panel:
    """The classifiers that look, each in a folder of its name in `out`."""

    data: str
    out: Path

    @property
    def judge(self) -> Path:
        """Of the first kind of features, and of class agreement."""
        return self.out / "judge"

    @property
    def scout(self) -> Path:
        """What settings are chosen by."""
        return self.out / "scout"

    def train(self, overrides: Mapping[str, Sequence[str]]) -> None:
        """All of them, on real images only; overrides of the configs, by name."""
        for folder, config, own in (
            ("judge", "classifier", ()),
            ("witness", "witness", ()),
            ("scout", "witness", SCOUT),
        ):
            print(f"== {folder}", file=sys.stderr, flush=True)
            given = [f"run={self.out / folder}", *own, *overrides[config]]
            train(load(f"{self.data}/{config}", given))

    def fid(self, samples: Path) -> float:
        """In the scout's features."""
        return self._of(samples, "classifier", self.scout, ("fid",), None)["fid"]["value"]

    def numbers(self, side: Side, samples: Path) -> dict[str, Any]:
        """All of `evaluate`, in JSON, whose report is put in out/name; and the two-sample test
        against reconstructions by the side's own tokenizer."""
        found = self._of(samples, kinds(), self.judge, MEASURED, self.out / side.name)
        return found | {AGAIN: self._against_reconstructions(side.tokenizer, samples)}

    def _of(
        self,
        samples: Path,
        features: str,
        weights: Path,
        metrics: Sequence[str],
        out: Path | None,
    ) -> dict[str, Any]:
        request = Evaluation(
            samples=samples,
            reference=f"{self.data}/vqgan",
            metrics=metrics,
            features=features,
            weights=weights,
            pictures=out is not None,
        )
        return dict(measured(request, out).as_json()["numbers"])

    def _against_reconstructions(self, tokenizer: Any, samples: Path) -> dict[str, Any]:
        data = data_of(f"{self.data}/vqgan")
        real, fake = from_source(data, "train"), from_npz(samples, channels=data.channels)
        metric = METRICS[AGAIN]
        sets = told(reconstructions(tokenizer, real), fake, metric.sets, batch_size=100)
        decoded, drawn = (sets[name] for name in metric.sets)
        assert decoded is not None and drawn is not None
        [value] = estimate(metric, decoded, drawn).values()
        return Number(*value, None, metric.better).as_json()


def kinds() -> str:
    """The kinds of features that both sides are measured in: MobileNet's where its weights are."""
    there = (Path(torch.hub.get_dir()) / "checkpoints").glob("mobilenet_v2-*.pth")
    return "classifier,witness,mobilenet" if any(there) else "classifier,witness"


def scouted(panel: Panel, side: Side, count: int) -> tuple[Any, str]:
    """The choice of the least FID in the scout's features -> it, and what each of them had."""
    path = panel.out / f"{side.name}-scouted.npz"
    tried = [panel.fid(side.draw(choice, count, SCOUTED_SEED, path)) for choice in side.choices]
    path.unlink()
    best = min(zip(side.choices, tried, strict=True), key=lambda pair: pair[1])[0]
    each = [f"{c or 'config'} {fid:.3g}" for c, fid in zip(side.choices, tried, strict=True)]
    return best, f"the scout's FID of {count}: {', '.join(each)}"


def judged(panel: Panel, side: Side, count: int) -> dict[str, Any]:
    """Scouted, drawn and measured: "numbers" with the "sampler" in words, "samples" their file."""
    best, words = scouted(panel, side, min(FEW, count))
    samples = side.draw(best, count, SEED, panel.out / f"{side.name}.npz")
    numbers = panel.numbers(side, samples)
    numbers["sampler"] = f"{best or 'that of the config'} ({words})"
    return {"numbers": numbers, "samples": str(samples)}


def worst_ratio(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """Plain's FID over ours in each kind of features, and the least of them, which decides.

    Both: the numbers of `evaluate` in JSON.
    """
    of_kind = [name for name in ours if name == "fid" or name.startswith("fid_")]
    ratios = {name: plain[name]["value"] / ours[name]["value"] for name in of_kind}
    worst = min(ratios, key=ratios.__getitem__)
    each = ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
    return f"plain over ours: {each}; worst ratio: {ratios[worst]:.3g} ({worst})"
