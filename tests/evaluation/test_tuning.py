import json
import math
from pathlib import Path

import pytest
import torch

from maskgit.cli import main
from maskgit.config.presets import load_presets
from maskgit.evaluation import tuning
from maskgit.evaluation.report import Number, Results
from maskgit.evaluation.tuning import Search, run_tuning
from maskgit.randomness import mixed_seed
from maskgit.samplers import SAMPLERS


@pytest.fixture
def measured(monkeypatch):
    """Numbers from a formula, best at temperature 0.9 and scale 2, in place of images; and the
    requests."""
    requests = []

    def formula(request):
        requests.append(request)
        found, guidance = request.options["sampler"], request.options["guidance"]
        value = 100 * (found["temperature"] - 0.9) ** 2 + (guidance["scale"] - 2.0) ** 2
        return Results({}, {"fid": Number(value, math.nan, None, "lower")}, (), {})

    monkeypatch.setattr(tuning, "evaluate", formula)
    monkeypatch.setattr(tuning, "instruments", lambda request: {"features": str(request.features)})
    return requests


def test_the_best_settings_become_a_preset_for_each_number_of_rounds(run, measured):
    paths = list(run_tuning(Search(run, trials=25), ["halton"], [4, 8]))
    assert [path.name for path in paths] == ["halton-4.yaml", "halton-8.yaml"] and len(
        measured
    ) == 50
    for steps, preset in zip((4, 8), load_presets(run / "pipeline").values(), strict=True):
        assert preset.sampler["name"] == "halton" and preset.sampler["steps"] == steps
        assert preset.measured["fid"] < 1.0 and preset.measured["trials"] == 25
        assert abs(preset.sampler["temperature"] - 0.9) < 0.15
    own = measured[0].options
    assert own["sampler"]["temperature"] == 1.0, "the first trial is what the sampler does anyway"


def test_run_again_it_continues_as_if_it_had_not_been_stopped(run, measured, tmp_path):
    list(run_tuning(Search(run, trials=6, batch_size=7), ["random"], [4]))
    assert {request.batch_size for request in measured} == {7}
    straight = [request.options for request in measured]
    (run / "tuning" / "random-4.log").unlink()
    measured.clear()
    list(run_tuning(Search(run, trials=3), ["random"], [4]))
    list(run_tuning(Search(run, trials=6), ["random"], [4]))
    assert [request.options for request in measured] == straight
    list(run_tuning(Search(run, trials=6), ["random"], [4]))
    assert len(measured) == 6, "and with the budget spent nothing is drawn"


def test_what_is_not_searched_stays_and_is_in_the_preset(tiny_pipeline, tmp_path, measured):
    tiny_pipeline.sampler = {"name": "confidence", "steps": 4, "top_p": 0.9}
    tiny_pipeline.guidance = {"scale": 2.0, "interval": (0.2, 1.0)}
    tiny_pipeline.save_pretrained(tmp_path / "other" / "pipeline")
    list(run_tuning(Search(tmp_path / "other", trials=1), ["confidence"], [4]))
    [preset] = load_presets(tmp_path / "other" / "pipeline").values()
    assert preset.sampler["top_p"] == 0.9 and preset.guidance.interval == (0.2, 1.0)


def test_another_model_is_another_search(run, measured, tiny_pipeline):
    list(run_tuning(Search(run, trials=2), ["random"], [4]))
    with torch.no_grad():
        next(tiny_pipeline.model.parameters()).add_(1.0)
    tiny_pipeline.save_pretrained(run / "pipeline")
    list(run_tuning(Search(run, trials=2), ["random"], [4]))
    assert len(measured) == 4, "and its trials begin anew"


def test_a_search_killed_in_its_first_trial_begins_with_the_defaults_again(
    run, measured, monkeypatch
):
    def killed(request):
        raise KeyboardInterrupt

    formula = tuning.evaluate
    monkeypatch.setattr(tuning, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        list(run_tuning(Search(run, trials=3), ["random"], [4]))
    monkeypatch.setattr(tuning, "evaluate", formula)
    list(run_tuning(Search(run, trials=3), ["random"], [4]))
    assert measured[0].options["sampler"]["temperature"] == 1.0 and len(measured) == 3
    [preset] = load_presets(run / "pipeline").values()
    assert preset.measured["trials"] == 3


def test_another_feature_network_is_another_search(run, measured):
    list(run_tuning(Search(run, trials=2), ["random"], [4]))
    list(run_tuning(Search(run, trials=2, features="inception"), ["random"], [4]))
    assert len(measured) == 4


@pytest.mark.parametrize("metric", ["worst_fid", "fid_witness"])
def test_several_kinds_of_features_are_searched_by_where_they_are_named(
    metric, run, measured, monkeypatch
):
    with pytest.raises(
        ValueError, match=f"{metric} is of several kinds .* --features classifier,witness"
    ):
        list(run_tuning(Search(run, metric=metric, features="witness"), ["random"], [4]))
    found = {metric: Number(2.5, math.nan, None, "lower")}
    requests = []
    monkeypatch.setattr(
        tuning, "evaluate", lambda request: requests.append(request) or Results({}, found, (), {})
    )
    search = Search(run, metric=metric, trials=1, features="classifier,witness")
    list(run_tuning(search, ["random"], [4]))
    [preset] = load_presets(run / "pipeline").values()
    assert preset.measured[metric] == 2.5
    assert requests[0].metrics == ("fid",) and requests[0].features == "classifier,witness"


def test_a_time_budget_keeps_what_was_found(run, measured):
    [path] = run_tuning(Search(run, trials=50, minutes=1e-9), ["confidence"], [4])
    assert len(measured) == 1 and path.is_file()


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if "critic" not in name])
def test_what_is_searched_is_what_a_sampler_has(sampler, run, measured):
    list(run_tuning(Search(run, trials=3), [sampler], [4]))
    names = set(measured[-1].options["sampler"])
    assert names >= {"name", "steps", "temperature", "schedule"}
    assert ("choice_temperature" in names) == (sampler in {"confidence", "moment"})
    assert ("eta" in names) == ("kind" in names) == (sampler == "remask")


def test_a_number_that_is_not_finite_is_a_failed_trial(run, measured, monkeypatch):
    formula = tuning.evaluate

    def sometimes(request):
        found = formula(request)
        if len(measured) != 2:
            return Results({}, {"fid": Number(math.nan, math.nan, None, "lower")}, (), {})
        return found

    monkeypatch.setattr(tuning, "evaluate", sometimes)
    [path] = run_tuning(Search(run, trials=4), ["halton"], [4])
    assert len(measured) == 4 and load_presets(run / "pipeline")[path.stem].measured["fid"] >= 0
    with pytest.raises(ValueError, match="random-4: no trial has a finite fid"):
        list(run_tuning(Search(run, trials=2), ["random"], [4]))


def test_mistakes_are_found_before_any_work(run, measured):
    with pytest.raises(ValueError, match="unknown number 'fidd', did you mean 'fid'"):
        list(run_tuning(Search(run, metric="fidd"), ["halton"], [4]))
    with pytest.raises(ValueError, match="no sampler changes bits_per_code"):
        list(run_tuning(Search(run, metric="bits_per_code"), ["halton"], [4]))
    with pytest.raises(ValueError, match="needs a model with a token critic"):
        list(run_tuning(Search(run), ["halton", "critic"], [4]))
    assert measured == [] and not (run / "tuning").exists()


@pytest.mark.slow
def test_tune_and_compare_on_images(tiny_configs, tmp_path, capfd, monkeypatch):
    """The commands, on a trained tiny model: real evaluations, presets used by compare, and both
    continue."""
    from maskgit.config.loading import parse
    from maskgit.data.tokenization import tokenize_dataset
    from maskgit.training.trainer import train

    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    judge = {"task": "classifier", "run": str(tmp_path / "classifier"), "data": vqgan.data.model_dump(mode="json"),
             "train": vqgan.train.model_dump(mode="json")}  # fmt: skip
    train(parse(judge, "judge"))

    def call(*words):
        with pytest.raises(SystemExit) as end:
            main([*map(str, words)])
        assert end.value.code == 0, capfd.readouterr().err
        return capfd.readouterr().out

    out = call(
        "tune", generator.run, "--sampler", "halton", "--rounds", "2", "--trials", 2, "--count", 20
    )
    assert out.strip() == str(Path(generator.run) / "pipeline" / "presets" / "halton-2.yaml")
    options = ("--samplers", "halton,confidence", "--rounds", "1,2", "--count", 20)
    table = call("compare", generator.run, *options)
    assert (
        "| halton | 2 |" in table
        and "| tuned |" in table
        and "tuned at 2" in table
        and "defaults" in table
    )
    folder = Path(generator.run) / "samplers"
    rows = json.loads((folder / "samplers.json").read_text())
    assert [row["rounds"] for row in rows] == [1, 1, 2, 2]
    assert rows[1]["network calls"] in (1, 2), "twice with guidance"
    assert all(
        (folder / name).is_file()
        for name in ("samplers.md", "samplers.png", "speed.png", "grid.png")
    )
    more = (
        "--samplers",
        "halton",
        "--rounds",
        "4",
        "--count",
        20,
        "--refresh",
        "1,4",
        "--out",
        tmp_path / "cached",
    )
    assert "| halton, refresh 4 | 4 |" in call("compare", generator.run, *more)
    exact, cached = json.loads((tmp_path / "cached" / "samplers.json").read_text())
    assert cached["network calls"] < exact["network calls"] == 2 * rows[2]["network calls"]
    monkeypatch.setattr("maskgit.evaluation.comparison.evaluate", evaluate_never)
    assert call("compare", generator.run, *options, "--longest", 300) == table, (
        "what is there stays"
    )
    for rounds in (1, 2):
        path = folder / f"confidence-{rounds}" / "place.json"
        path.write_text(path.read_text().replace("confidence", "other"))
    with pytest.raises(SystemExit) as end:
        main(["compare", str(generator.run), *map(str, options)])
    assert (
        end.value.code == 2
        and "confidence-1, " in (error := capfd.readouterr().err)
        and "confidence-2" in error
    )


def evaluate_never(request):
    raise AssertionError(f"{request} was measured already")


def test_seeds_of_trials_are_apart_from_those_of_evaluate():
    assert tuning.FIRST_SEED > 10**6 and mixed_seed("trial", 4, 0) != mixed_seed("trial", 4, 1)
