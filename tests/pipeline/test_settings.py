import pytest


def test_wrong_settings_are_refused(tiny_pipeline):
    for options, message in (
        ({"guidance": {"scal": 2.0}}, "unknown key guidance.scal, did you mean 'scale'"),
        ({"guidance": -1.0}, "guidance.scale"),
        ({"temperature": "warm"}, "temperature"),
        ({"sampler": "haltn"}, "unknown sampler 'haltn', did you mean 'halton'"),
        ({"sampler": "self_critic"}, "needs a model with a critic of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_pipeline.settings(**options)


def test_options_of_the_sampler_can_be_given(tiny_pipeline):
    few, many = (len(list(tiny_pipeline.rounds([0], [0], steps=steps))) for steps in (2, 6))
    assert (few, many) == (2, 6) and len(list(tiny_pipeline.rounds([0], [0]))) == 4
