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
    with pytest.raises(
        ValueError, match=r"line: data: Input should be a valid dict.* \(given: 3\)$"
    ):
        override_section(DataConfig, DataConfig(), "data", ["data=3"])


@pytest.mark.parametrize(
    ("task", "override", "message"),
    [
        ("maskgit", "model.depth=1000000000", "model.depth: Input should be less than or equal to"),
        ("maskgit", "model.dim=1000000000", "model.dim: Input should be less"),
        ("maskgit", "model.heads=1000000000", "model.heads: Input should be less"),
        ("maskgit", "model.dim_head=1000000000", "model.dim_head: Input should be less"),
        ("maskgit", "model.mlp_ratio=1e9", "model.mlp_ratio: Input should be less"),
        ("maskgit", "critic={depth: 1000000000}", "critic.depth: Input should be less"),
        ("critic", "model.depth=1000000000", "model.depth: Input should be less"),
        ("classifier", "model.width=1000000000", "model.width: Input should be less"),
        ("classifier", "model.width=4", "model.width: Input should be a multiple of 8"),
        ("tokenizer", "model.num_blocks=1000000000", "model.num_blocks: Input should be less"),
        ("tokenizer", "model.widths=[1000000000]", "model.widths.0: Input should be less"),
        ("tokenizer", f"model.widths={[8] * 99}", "model.widths: Tuple should have at most 16"),
        ("tokenizer", "model.patch_size=1000000000", "model.patch_size: Input should be less"),
        ("tokenizer", "model.latent_dim=1000000000", "model.latent_dim: Input should be less"),
        (
            "tokenizer",
            "model.quantizer={name: rvq, codes_per_cell: 1000000000}",
            "codes_per_cell: Input should be less",
        ),
        (
            "tokenizer",
            "model.quantizer={name: vq, codebook_dim: 1000000000}",
            "codebook_dim: Input should be less",
        ),
        (
            "tokenizer",
            "loss.adversarial={discriminator: {name: patchgan, num_layers: 1000000000}}",
            "num_layers: Input should be less",
        ),
        ("tokenizer", "data.image_size=1000000000", "data.image_size: Input should be less"),
        ("tokenizer", "data.workers=1000000000", "data.workers: Input should be less"),
        ("tokenizer", "train.batch_size=1000000000", "train.batch_size: Input should be less"),
        ("tokenizer", "train.accumulate=1000000000", "train.accumulate: Input should be less"),
    ],
)
def test_what_is_built_has_an_end_that_a_config_is_refused_beyond(yaml, task, override, message):
    with pytest.raises(ValueError, match=message) as error:
        load(yaml(f"task: {task}\n"), [override])
    assert "\n" not in str(error.value)


def test_a_keyword_may_ask_something_of_another(yaml):
    config = yaml("task: maskgit\nmodel: {dim_head: 6}\n")
    wrong = r"model: positions=rotary asks for a dim_head that divides by 4, not 6"
    with pytest.raises(ValueError, match=wrong):
        load(config, ["model.positions=rotary"])
    assert load(config).model.dim_head == 6
    assert load(config, ["model.positions=rotary", "model.dim_head=8"]).model.dim_head == 8
