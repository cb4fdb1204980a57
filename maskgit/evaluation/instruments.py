"""What `evaluate` measures with: a feature network, and a judge of class agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskgit.evaluation.features import ClassifierFeatures, FeatureNetwork, load_features
from maskgit.evaluation.request import Evaluation, TokenizerEvaluation


def beside(run: Path | None) -> Path | None:
    """The classifier that lies beside a run."""
    path = run.parent / "classifier" if run is not None else None
    return path if path is not None and (path / "classifier.safetensors").is_file() else None


def find_judge(request: Evaluation) -> ClassifierFeatures | None:
    """The one asked for, else the classifier of the features, else the one beside the run."""
    of_features = request.weights if request.features == "classifier" else None
    path = request.judge or of_features or beside(request.run)
    return None if path is None else ClassifierFeatures(path)


def find_network(request: Evaluation, judge: ClassifierFeatures | None) -> FeatureNetwork:
    """The one asked for, else the judge, else Inception."""
    name = request.features or ("classifier" if judge else "inception")
    if name == "classifier" and judge and request.weights in (None, request.judge):
        return judge
    return load_features(name, request.weights)


def instruments(request: Evaluation) -> dict[str, Any]:
    """What would be measured with, and its weights' hashes: {"features": ..., "judge": ...}."""
    judge = find_judge(request)
    network = find_network(request, judge)
    return {"features": network.about, "judge": judge.about if judge else None}


def tokenizer_network(request: TokenizerEvaluation) -> tuple[str, Path | None] | None:
    """The entry of FEATURES to look with, and its weights: the one asked for, else the classifier
    of the weights, else the one beside the run; none without any."""
    own = beside(request.run) if request.features in (None, "classifier") else None
    weights = request.weights or own
    if request.features is None and weights is None:
        return None
    return request.features or "classifier", weights
