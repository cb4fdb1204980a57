from dataclasses import replace

import pytest
import torch

from maskgit.evaluation.metrics import METRICS
from maskgit.evaluation.plan import plan
from maskgit.evaluation.request import Evaluation
from vqgan.classifier import Classifier


@pytest.fixture
def request_of_folders(image_folder, tmp_path):
    """8 images measured against 24, with a judge's features."""
    torch.manual_seed(0)
    judge = Classifier(channels=1, num_classes=2, width=8)
    judge.save(tmp_path / "judge" / "classifier.safetensors", {"class_names": ["bag", "coat"]})
    return Evaluation(
        samples=image_folder / "val",
        reference=str(image_folder / "train"),
        features="classifier",
        weights=tmp_path / "judge",
    )


def test_what_applies_is_measured_and_the_rest_is_left_out_with_its_reason(request_of_folders):
    found = plan(request_of_folders)
    assert (found.fake.num_images, found.real.num_images) == (8, 24)
    assert found.pipeline is None and found.validation is None
    assert found.network.about == found.judge.about
    assert {*found.metrics, *found.left_out} == set(METRICS) and "fid" in found.metrics
    assert found.left_out["bits"] == "needs a run and its data"


def test_the_sets_that_nothing_compares_are_not_wanted(request_of_folders):
    found = plan(replace(request_of_folders, metrics=("fid",)))
    assert found.metrics == ["fid"] and found.left_out == {}
    assert found.wanted == set(METRICS["fid"].sets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("bits",)}, "bits: needs a run and its data"),
        ({"metrics": ("c2st",)}, "c2st: needs 40 images at least on either side"),
        ({"metrics": ("c2st_reconstructions",)}, "needs a run, whose tokenizer is known"),
        ({"metrics": ("fdi",)}, "unknown metric 'fdi', did you mean 'fid'"),
        ({"reference": None}, "pass --reference"),
        ({"seed": 3}, "samples are measured all"),
    ],
)
def test_what_cannot_be_is_refused_before_any_image_is_seen(request_of_folders, options, message):
    with pytest.raises(ValueError, match=message):
        plan(replace(request_of_folders, **options))
