import json

import pytest

from maskgit.config.presets import Preset
from maskgit.evaluation import places
from maskgit.evaluation.places import Comparison, line_of, plan, settings_for
from maskgit.model.transformer import Transformer
from maskgit.samplers import SAMPLERS


@pytest.fixture
def run(tiny_pipeline, tmp_path, monkeypatch):
    """A saved pipeline; what it would be measured with is only a name."""
    monkeypatch.setattr(places, "instruments", lambda request: {"features": "x", "judge": None})
    tiny_pipeline.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_a_place_for_each_sampler_that_the_model_has_and_each_number_of_rounds(run, tiny_pipeline):
    found = plan(Comparison(run, (), (2, 4)), tiny_pipeline)
    able = [name for name in SAMPLERS if "critic" not in name]
    assert [(p.rounds, p.sampler) for p in found] == [(n, name) for n in (2, 4) for name in able]
    assert all(p.request.options["sampler"]["steps"] == p.rounds for p in found)
    assert len({p.out for p in found}) == len(found)
    assert {p.out.parent for p in found} == {run / "samplers"}


def test_only_a_sampler_that_can_gets_a_line_for_each_refresh(run, tiny_pipeline):
    critic = Transformer(**{**tiny_pipeline.net.config, "num_outputs": 1}).eval()
    tiny_pipeline.model.token_critic = critic
    found = plan(Comparison(run, ("halton", "critic"), (4,), refresh=(1, 2)), tiny_pipeline)
    assert [p.line for p in found] == ["halton", "halton, refresh 2", "critic"]
    assert line_of("halton", 1) == "halton"


def test_the_nearest_tuned_preset_is_used_and_it_is_said(tiny_pipeline):
    assert settings_for(tiny_pipeline, "halton", 8) == (
        {"sampler": "halton", "steps": 8, "refresh": 1},
        "defaults",
    )
    tuned = Preset(sampler={"name": "halton", "steps": 4})
    tiny_pipeline.presets = {"halton-4": tuned, "halton-32": tuned, "halton-mine": tuned}
    given, origin = settings_for(tiny_pipeline, "halton", 8)
    assert (given["preset"], given["steps"], origin) == ("halton-4", 8, "tuned at 4")
    assert settings_for(tiny_pipeline, "halton", 32)[1] == "tuned"


def test_a_place_of_other_settings_is_stale(run, tiny_pipeline):
    asked = Comparison(run, ("halton",), (2,))
    [place] = plan(asked, tiny_pipeline)
    assert not place.is_stale(), "nothing is there"
    place.out.mkdir(parents=True)
    (place.out / "place.json").write_text(json.dumps({"made of": "something else"}))
    assert place.is_stale()
    with pytest.raises(ValueError, match=r"halton-2: set --out to measure anew"):
        plan(asked, tiny_pipeline)
    assert plan(Comparison(run, ("halton",), (2,), out=run / "new"), tiny_pipeline)
