import pytest

from vqgan.registry import build, check, choose, split


def cosine(t, *, power=1.0):
    return t * power


TABLE = {"cosine": cosine, "linear": lambda t: t}


def test_a_wrong_name_is_told_the_right_one():
    with pytest.raises(
        ValueError,
        match=r"unknown schedule 'cosin', did you mean 'cosine'\? \(known: cosine, linear\)",
    ):
        choose(TABLE, "cosin", "schedule")


def test_a_wrong_option_is_told_the_right_one():
    with pytest.raises(
        ValueError, match="schedule 'cosine' has no option 'powr', did you mean 'power'"
    ):
        check(TABLE, {"name": "cosine", "powr": 2}, "schedule", given=["t"])


def test_a_missing_option_is_named():
    with pytest.raises(ValueError, match="schedule 'linear' needs t"):
        check(TABLE, "linear", "schedule")


@pytest.mark.parametrize("spec", [3, {"power": 2}, ["cosine"]])
def test_a_choice_has_a_name(spec):
    with pytest.raises(ValueError, match="is written"):
        split(spec, "schedule")


def test_build_passes_given_and_options():
    assert build(TABLE, {"name": "cosine", "power": 3}, "schedule", 2.0) == 6.0
