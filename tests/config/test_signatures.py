import pytest

from maskgit.config.loading import load, override_section
from maskgit.config.sections import DataConfig


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
        (
            "sampler={name: remask, refine: [0.5, 0.5]}",
            "sampler 'remask': refine: the second number has to be the greater one",
        ),
        ("sampler={name: remask, refine: [0, 0.5]}", "refine.0: Input should be greater than 0"),
        (
            "loss.schedule={name: sigmoid, start: 3}",
            r"schedule 'sigmoid': end \(3.0\) has to be greater than start \(3.0\)",
        ),
        (
            "sampler={name: halton, schedule: {name: sigmoid, start: 1, end: 0}}",
            "sampler 'halton': schedule: schedule 'sigmoid': end .0.0. has to be greater",
        ),
    ],
)
def test_options_of_choices_have_their_types(yaml, override, message):
    with pytest.raises(ValueError, match=message):
        load(yaml("task: maskgit\n"), [override])


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=true", "train.learning_rate=false", "train.betas=[true, 0.9]", "seed=true",
        "model.dim=true", "guidance.interval=[false, true]", "loss.condition_dropout=true",
        "sampler={name: halton, steps: true}", "sampler={name: halton, temperature: [true, 1]}",
        "loss.schedule={name: poly, power: true}",
    ],
)  # fmt: skip
def test_true_and_false_are_no_numbers(yaml, override):
    with pytest.raises(ValueError, match="a number goes here, not true or false") as error:
        load(yaml("task: maskgit\n"), [override])
    assert str(error.value).count("(given: ") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=", "train.steps: Input should be a valid integer (no value given)"),
        ("sampler=", "sampler: Input should be a valid string (no value given)"),
        ("model=3", "model: a backbone is written {name: ..., option: ...}, not 3 (given: 3)"),
        ("sampler={name: halton, steps: 0}", "steps: Input should be greater than 0 (given: 0)"),
    ],
)
def test_what_was_given_is_said_once_with_its_place(yaml, override, message):
    with pytest.raises(ValueError) as error:
        load(yaml("task: maskgit\n"), [override])
    assert str(error.value).endswith(message)


def test_a_section_that_is_none_has_no_empty_place():
    with pytest.raises(ValueError, match=r"^data: Input should be a valid dict.* \(given: 3\)$"):
        override_section(DataConfig, DataConfig(), "data", ["data=3"])
