import pytest

from maskgit.config.loading import load


def test_an_option_gets_the_type_of_its_entry(yaml):
    path = yaml(
        "task: maskgit\nsampler: {name: remask, steps: 8.0, eta: '0.1', temperature: [1.2, 0.8]}\n"
    )
    assert load(path).sampler == {
        "name": "remask",
        "steps": 8,
        "eta": 0.1,
        "temperature": [1.2, 0.8],
    }
    assert isinstance(load(path).sampler["steps"], int)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sampler={name: confidence, steps: abc}",
            "sampler 'confidence': steps: Input should be a valid integer",
        ),
        (
            "sampler={name: confidence, schedule: cosin}",
            "unknown schedule 'cosin', did you mean 'cosine'",
        ),
        (
            "loss.schedule={name: poly, power: abc}",
            "schedule 'poly': power: Input should be a valid number",
        ),
        (
            "guidance.schedule={name: power_cosine, powr: 1}",
            "has no option 'powr', did you mean 'power'",
        ),
    ],
)
def test_options_of_choices_have_their_types(yaml, override, message):
    with pytest.raises(ValueError, match=message):
        load(yaml("task: maskgit\n"), [override])
