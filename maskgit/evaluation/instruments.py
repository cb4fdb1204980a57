"""What `evaluate` measures with: a feature network, and a judge of class agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskgit.evaluation.features import (
    ClassifierFeatures,
    FeatureNetwork,
    SeveralFeatures,
    load_features,
)
from maskgit.evaluation.judges import beside, judge_of
from maskgit.evaluation.request import Evaluation, TokenizerEvaluation


def feature_names(request: Evaluation | TokenizerEvaluation) -> list[str]:
    """The entries of FEATURES that are asked for, each once, in their order."""
    names = [name.strip() for name in (request.features or "").split(",")]
    return [name for name in dict.fromkeys(names) if name]


def find_judge(request: Evaluation) -> ClassifierFeatures | None:
    """The one asked for, else the classifier of the features, else the run's own (`judge_of`)."""
    first = feature_names(request)[:1]
    of_features = request.weights if first == ["classifier"] else None
    path = request.judge or of_features or judge_of(request.run)
    return None if path is None else ClassifierFeatures(path)


def find_network(request: Evaluation, judge: ClassifierFeatures | None) -> FeatureNetwork:
    """The one asked for, else the judge, else Inception; several side by side.

    The weights are the first one's; the others are found where they always lie.
    """
    names = feature_names(request) or ["classifier" if judge else "inception"]
    is_judge = names[0] == "classifier" and request.weights in (None, request.judge)
    first = judge if judge and is_judge else load_features(names[0], _weights(request, names[0]))
    others = [load_features(name, _usual(request, name)) for name in names[1:]]
    return SeveralFeatures([first, *others]) if others else first


def _weights(request: Evaluation, name: str) -> Path | None:
    return request.weights or (_usual(request, name) if name == "witness" else None)


def _usual(request: Evaluation, name: str) -> Path | None:
    """Where a classifier lies if nobody says: beside the run, else beside the judge."""
    places = [beside(run, name) for run in (request.run, request.judge, request.weights)]
    return next((place for place in places if place is not None), None)


def instruments(request: Evaluation) -> dict[str, Any]:
    """What would be measured with, and its weights' hashes: {"features": ..., "judge": ...}."""
    judge = find_judge(request)
    network = find_network(request, judge)
    return {"features": network.about, "judge": judge.about if judge else None}


def tokenizer_network(request: TokenizerEvaluation) -> tuple[str, Path | None] | None:
    """The entry of FEATURES to look with, and its weights: the one asked for, else the classifier
    of the weights, else the one beside the run; none without any."""
    first = next(iter(feature_names(request)), None)
    name = first or "classifier"
    own = beside(request.run, name) if name in ("classifier", "witness") else None
    weights = request.weights or own
    return None if first is None and weights is None else (name, weights)


def other_networks(request: TokenizerEvaluation) -> dict[str, FeatureNetwork]:
    """The other entries of FEATURES that are asked for, with their usual weights."""
    return {
        name: load_features(name, beside(request.run, name)) for name in feature_names(request)[1:]
    }
