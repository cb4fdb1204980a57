import pytest

from maskgit.config.loading import load


def test_an_override_with_a_mapping_replaces_the_old_one(yaml):
    path = yaml("task: tokenizer\nmodel: {quantizer: {name: vq, codebook_size: 64}}\n")
    assert load(path, ["model.quantizer={name: fsq, levels: [4, 4]}"]).model.quantizer == {
        "name": "fsq",
        "levels": [4, 4],
    }


def test_an_option_can_be_set_on_a_choice_that_is_only_a_name(yaml):
    config = load(
        yaml("task: tokenizer\ndata: {source: fashion_mnist}\n"), ["data.source.hub=true"]
    )
    assert config.data.source == {"name": "fashion_mnist", "hub": True}


def test_an_error_blames_the_command_line_or_the_file(yaml):
    for override in ("train.step=5", "train.steps=none", "run=[1", "train.steps"):
        with pytest.raises(ValueError) as error:
            load(yaml("task: tokenizer\n"), ["seed=1", override])
        assert "c.yaml" not in str(error.value)
        assert "on the command line: " in str(error.value) or override == "train.steps"
    with pytest.raises(ValueError, match=r"c\.yaml: unknown key train\.step,"):
        load(yaml("task: tokenizer\ntrain: {step: 5}\n"), ["seed=1"])
    with pytest.raises(ValueError, match=r"c\.yaml is not a mapping"):
        load(yaml("[1, 2]\n"), ["seed=1"])


def test_what_the_file_lacks_the_command_line_may_give(yaml):
    path = yaml("task: tokenizer\ntrain: {steps: none}\n")
    assert load(path, ["train.steps=5"]).train.steps == 5
