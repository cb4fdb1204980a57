import pytest

from maskgit.cli import main
from maskgit.config.presets import Preset, load_presets, save_preset
from maskgit.pipeline.pipeline import Pipeline

HALTON = Preset(sampler={"name": "halton", "steps": 2, "temperature": 0.8}, guidance={"scale": 1.5})


def test_a_preset_lies_beside_the_weights(tiny_pipeline, tmp_path):
    save_preset(tmp_path, "halton-2", HALTON)
    (tmp_path / "presets" / ".tmp-left.yaml").write_text("cut off by a ki")
    tiny_pipeline.save_pretrained(tmp_path)
    again = Pipeline.from_pretrained(tmp_path)
    assert again.presets == {"halton-2": HALTON}
    assert again.settings(preset="halton-2").sampler == HALTON.sampler
    assert again.settings(preset="halton-2").guidance["scale"] == 1.5
    assert again.settings(preset="halton-2", steps=7, guidance=3.0) == (
        {**HALTON.sampler, "steps": 7},
        {**again.settings(preset="halton-2").guidance, "scale": 3.0},
    )
    assert len(list(again.rounds([0], [0], preset="halton-2"))) == 2
    assert load_presets(again.save_pretrained(tmp_path / "other")) == {"halton-2": HALTON}


def test_a_preset_of_other_weights_is_named(tiny_pipeline, tmp_path, capfd):
    found = HALTON.model_copy(update={"measured": {"weights": {"model": "0123"}}})
    tiny_pipeline.presets |= {"mine": HALTON, "theirs": found}
    tiny_pipeline.save_pretrained(tmp_path / "pipeline")
    for name, said in (("mine", False), ("theirs", True)):
        for code, command in (
            (
                0,
                [
                    "sample",
                    str(tmp_path),
                    "--preset",
                    name,
                    "--labels",
                    "0",
                    "--out",
                    str(tmp_path / "x.png"),
                ],
            ),
            # there is nothing to compare with
            (
                2,
                ["evaluate", str(tmp_path), "--preset", name, "--metrics", "fid"],
            ),
        ):
            with pytest.raises(SystemExit) as end:
                main(command)
            assert end.value.code == code
            assert (
                "the preset theirs was tuned on other weights" in capfd.readouterr().err
            ) == said


def test_what_is_wrong_with_a_preset_is_said(tiny_pipeline, tmp_path):
    with pytest.raises(ValueError, match="no preset 'fast': this model has none yet"):
        tiny_pipeline.settings(preset="fast")
    tiny_pipeline.presets["fast"] = HALTON
    with pytest.raises(ValueError, match="unknown preset 'fats', did you mean 'fast'"):
        tiny_pipeline.settings(preset="fats")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "a.yaml").write_text("sampler: {name: halton, step: 3}")
    with pytest.raises(ValueError, match=r"a.yaml: .*no option 'step', did you mean 'steps'"):
        load_presets(tmp_path)
    (tmp_path / "presets" / "a.yaml").write_text("sampler: '${oc.env:HOME}'")
    with pytest.raises(ValueError, match="interpolation"):
        load_presets(tmp_path)
