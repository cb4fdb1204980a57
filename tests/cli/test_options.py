import pytest

from maskgit.cli.options import Sampling, set_words


def test_sampling_options_are_those_of_a_pipeline():
    sampling = Sampling(
        sampler="{name: remask, eta: 0.1}", guidance="2", negative="coat", temperature="1.2,0.8"
    )
    wanted = {"sampler": {"name": "remask", "eta": 0.1}, "guidance": 2, "temperature": (1.2, 0.8)}
    assert sampling.options() == {**wanted, "negative": "coat"}
    assert sampling.options({"coat": 1}.get) == {**wanted, "negative": 1}
    assert Sampling().options() == {}


def test_words_set_any_option_on_top_of_the_others():
    words = ["sampler.temperature=.8", "guidance.schedule=linear", "sampler.eta=1e-1"]
    found = set_words({"guidance": 3, "temperature": 1.0, "steps": 4}, words)
    assert found == {
        "guidance": {"scale": 3, "schedule": "linear"},
        "temperature": 0.8,
        "eta": 0.1,
        "steps": 4,
    }
    assert set_words({}, ["sampler.name=halton"]) == {"sampler": "halton"}


@pytest.mark.parametrize(
    ("word", "message"),
    {
        "smpler.eta=1": "unknown section of --set 'smpler', did you mean 'sampler'",
        "sampler.negative=coat": "unknown option of a sampler 'negative'",
        "sampler=halton": "--set is written sampler.option=value, not sampler=halton",
        "sampler.eta": "an override is written section.key=value",
        "sampler.eta=${oc.env:HOME}": "interpolation is not allowed",
    }.items(),
)
def test_a_wrong_word_is_refused(word, message):
    with pytest.raises(ValueError) as error:
        set_words({}, [word])
    assert message in str(error.value)
