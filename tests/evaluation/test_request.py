from dataclasses import replace
from pathlib import Path

import pytest

from maskgit.evaluation.request import (
    Evaluation,
    choose_metrics,
    is_tokenizer,
    tokenizer_request,
)


def test_what_cannot_be_measured_is_left_out_unless_it_was_asked_for():
    known, cannot = ("fid", "kid", "bits"), {"bits": "needs a run"}
    assert choose_metrics([], known, cannot) == (["fid", "kid"], cannot)
    assert choose_metrics(["kid", "fid", "kid"], known, cannot) == (["kid", "fid"], {})
    with pytest.raises(ValueError, match="bits: needs a run"):
        choose_metrics(["fid", "bits"], known, cannot)


def test_a_generator_lies_beside_its_tokenizer_and_is_none(tmp_path):
    assert not is_tokenizer(tmp_path) and is_tokenizer(Path("any.safetensors"))
    (tmp_path / "tokenizer.safetensors").touch()
    assert is_tokenizer(tmp_path)
    (tmp_path / "config.json").touch()
    assert not is_tokenizer(tmp_path)


def test_what_is_asked_of_a_tokenizer_is_passed_on():
    asked = Evaluation(run=Path("run"), count=5, metrics=("psnr",), features="inception")
    found = tokenizer_request(asked)
    assert (found.run, found.count, found.metrics) == (Path("run"), 5, ("psnr",))
    assert found.features == "inception" and found.pictures


@pytest.mark.parametrize(
    "drawing",
    [{"seed": 0}, {"options": {"steps": 2}}, {"samples": Path("x")}],
    ids=str,
)
def test_a_tokenizer_draws_nothing(drawing):
    with pytest.raises(ValueError, match="run is a tokenizer: it draws nothing"):
        tokenizer_request(replace(Evaluation(run=Path("run")), **drawing))
