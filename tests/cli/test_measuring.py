"""What the words of the measuring commands become; the work itself is replaced."""

import pytest

from tests.conftest import cli


@pytest.fixture
def asked(monkeypatch):
    """(the arguments of what was called last), whichever it was."""
    got = []
    for place in (
        "maskgit.evaluation.comparison.run_comparison",
        "maskgit.benchmark.speed.run_benchmark",
        "maskgit.benchmark.quality.run_quality",
        "maskgit.benchmark.settings.run_settings",
        "maskgit.benchmark.tokenizers.run_tokenizers",
    ):
        monkeypatch.setattr(place, lambda *given: got.append(given) or "done")
    return got


def test_compare_reads_names_and_numbers(asked, tmp_path):
    words = ("--samplers", "halton, random", "--rounds", "2,4", "--refresh", "1,2", "--count", 20)
    words += ("--batch-size", 3)
    assert cli("compare", tmp_path, *words) == 0
    [(comparison,)] = asked
    assert (comparison.run, comparison.count, comparison.batch_size) == (tmp_path, 20, 3)
    assert list(comparison.samplers) == ["halton", "random"]
    assert [*comparison.rounds, *comparison.refresh] == [2, 4, 1, 2]


def test_speed_takes_the_sizes_that_are_given_and_its_own_else(asked, tmp_path):
    from maskgit.benchmark.plan import Plan
    from maskgit.benchmark.speed import QUICK

    words = ("--only", "training", "--cells", "64", "--seconds", 1, "--out", tmp_path)
    for more, base in (((), Plan()), (("--quick",), QUICK)):
        assert cli("benchmark", *words, *more) == 0
        parts, plan, out = asked.pop()
        assert (parts, plan.cells, plan.seconds, out) == (["training"], (64,), 1.0, tmp_path)
        assert plan.batch == base.batch and plan.longest == base.longest


def test_trainings_have_their_own_minutes_and_counts(asked, tmp_path):
    for what in ("quality", "settings", "tokenizers"):
        assert cli("benchmark", what, "--out", tmp_path) == 0
    quality, settings, tokenizers = asked
    assert list(quality[0]) == [5, 10] and quality[1] == 10_000
    assert settings == (3, 2, 2000, tmp_path)
    assert tokenizers == ("fashion_mnist", 3, 2, None, tmp_path, None, [])
