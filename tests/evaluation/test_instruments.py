from pathlib import Path

import pytest
import torch

from maskgit.evaluation.instruments import (
    beside,
    find_judge,
    find_network,
    instruments,
    tokenizer_network,
)
from maskgit.evaluation.request import Evaluation, TokenizerEvaluation
from vqgan.classifier import Classifier


def save_judge(folder, seed=0):
    torch.manual_seed(seed)
    judge = Classifier(channels=1, num_classes=2, width=8)
    judge.save(folder / "classifier.safetensors", {"class_names": ["bag", "coat"]})
    return folder


@pytest.fixture
def run(tmp_path):
    """The folder of a run, with a classifier beside it."""
    save_judge(tmp_path / "classifier")
    return tmp_path / "run"


def test_the_classifier_beside_a_run_is_judge_and_network(run, tmp_path):
    assert beside(run) == tmp_path / "classifier" and beside(None) is None
    request = Evaluation(run=run)
    judge = find_judge(request)
    assert judge.class_names == ("bag", "coat") and find_network(request, judge) is judge
    found = instruments(request)
    assert found["features"] == found["judge"] == judge.about


def test_without_one_there_is_no_judge(tmp_path):
    assert find_judge(Evaluation(run=tmp_path / "a" / "run")) is None


def test_what_is_asked_for_comes_first(run, tmp_path):
    other = save_judge(tmp_path / "other", seed=1)
    own = find_judge(Evaluation(run=run)).about["sha256"]
    request = Evaluation(run=run, judge=other)
    assert find_judge(request).about["sha256"] != own
    features = Evaluation(run=run, features="classifier", weights=other)
    assert find_judge(features).about == find_judge(request).about
    apart = Evaluation(run=run, judge=tmp_path / "classifier", features="classifier", weights=other)
    found = instruments(apart)
    assert found["judge"]["sha256"] == own != found["features"]["sha256"]


def test_a_witness_lies_beside_the_run_or_beside_the_judge(run, tmp_path):
    with pytest.raises(ValueError, match="witness features need a witness beside the run"):
        find_network(
            Evaluation(run=run, features="classifier,witness"), find_judge(Evaluation(run=run))
        )
    save_judge(tmp_path / "witness", seed=1)
    weights = tmp_path / "classifier"
    for request in (
        Evaluation(run=run, features="classifier,witness"),
        Evaluation(samples=tmp_path / "s", features="classifier,witness", weights=weights),
        Evaluation(samples=tmp_path / "s", features="classifier,witness", judge=weights),
    ):
        several = instruments(request)["features"]["networks"]
        assert [one["network"] for one in several] == ["classifier", "witness"]
        assert several[0]["sha256"] != several[1]["sha256"]
    alone = instruments(Evaluation(run=run, features="witness"))
    assert alone["features"] == several[1] and alone["judge"] == several[0]


def test_a_tokenizer_is_looked_at_with_the_classifier_beside_it_if_there_is_one(run, tmp_path):
    classifier, weights = tmp_path / "classifier", Path("w")
    for options, wanted in (
        ({}, ("classifier", classifier)),
        ({"weights": weights}, ("classifier", weights)),
        ({"features": "inception"}, ("inception", None)),
        ({"features": "inception", "weights": weights}, ("inception", weights)),
    ):
        assert tokenizer_network(TokenizerEvaluation(run=run, **options)) == wanted
    assert tokenizer_network(TokenizerEvaluation(run=tmp_path / "a" / "run")) is None


def test_a_classifier_of_the_working_folder_is_not_taken_unasked(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert beside(None) is None
