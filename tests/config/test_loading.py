import os

import pytest

from maskgit.config.loading import flatten, known_configs, load, parse, save, to_dict
from maskgit.training.resume import check_same


def test_a_file_holds_only_what_differs(yaml):
    config = load(
        yaml("task: tokenizer\ntrain: {learning_rate: 1e-4}\n"),
        ["train.steps=7", "model.quantizer.name=fsq"],
    )
    assert (config.train.learning_rate, config.train.steps, config.train.batch_size) == (
        1e-4,
        7,
        64,
    )
    assert config.model.quantizer == {"name": "fsq"}


def test_the_word_of_version_0_1_for_precision_is_read(yaml):
    """YAML reads its `no` as false."""
    assert load(yaml("task: tokenizer\n"), ["train.mixed_precision=no"]).train.precision == "fp32"
    for no in ("no", "'no'"):
        old = yaml(f"task: tokenizer\ntrain: {{mixed_precision: {no}}}\n")
        assert load(old).train.precision == "fp32"
    with pytest.raises(ValueError, match="mixed_precision is the old word for precision"):
        load(old, ["train.precision=bf16"])


WRONG = {
    "trian.steps=3": r"unknown key trian, did you mean 'train'\?",
    "train.step=3": r"unknown key train.step, did you mean 'steps'\?",
    "train.steps=many": r"train.steps: .*valid integer.*\(given: 'many'\)",
    "train.steps=0": r"train.steps: .*greater than 0",
    "train.precision=fp16": r"train.precision: Input should be 'auto', 'fp32' or 'bf16'",
    "model.quantizer=fqs": r"model.quantizer: unknown quantizer 'fqs', did you mean 'fsq'\?",
    "model.quantizer={name: vq, codebok_size: 3}": r"quantizer 'vq' has no option 'codebok_size', did you mean 'codebook_size'\?",
    "data.source={name: folder}": r"data.source: data source 'folder' needs root",
    "data.channels=2": r"data.channels: Input should be 1, 3 or 4",
    "loss.pixel=l3": r"loss.pixel: unknown pixel loss 'l3'",
    "loss.adversarial.start=3": r"unknown key loss.adversarial.start, did you mean 'start_step'\?",
    "task=tokeniser": r"unknown task 'tokeniser', did you mean 'tokenizer'\?",
    "run=${oc.env:HOME}": r"interpolation is not allowed",
    "data.source={name: folder, root: 5}": r"data source 'folder': root: Input should be a valid string",
    "model.quantizer={name: fsq, levels: abc}": r"quantizer 'fsq': levels: Input should be a valid tuple",
    "model.widths=[]": r"model.widths: Tuple should have at least 1 item",
    "train.learning_rate=.inf": r"train.learning_rate: Input should be a finite number",
    "steps": r"an override is written section.key=value, not 'steps'",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_said_with_the_right_one(yaml, override):
    with pytest.raises(ValueError, match=WRONG[override]):
        load(yaml("task: tokenizer\n"), [override])


def test_broken_yaml_is_one_line(yaml):
    with pytest.raises(ValueError) as error:
        load(yaml("task: [tokenizer\n"))
    assert "c.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "c.yaml is a folder: a config is a YAML file"),
        (os.mkfifo, "c.yaml is a device, pipe or socket"),
        (lambda path: path.write_text("# later\n"), "c.yaml is empty: a config says at least"),
    ],
)
def test_what_is_no_file_or_an_empty_one_is_named(tmp_path, make, message):
    make(tmp_path / "c.yaml")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "c.yaml")


def test_a_missing_config_is_told_the_nearest():
    with pytest.raises(FileNotFoundError, match="no config mnist/vqgn, did you mean 'mnist/vqgan'"):
        load("mnist/vqgn")


@pytest.mark.parametrize("name", known_configs())
def test_a_resolved_config_round_trips(name, tmp_path):
    config = load(name)
    save(config, tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml") == config
    check_same(config, parse(to_dict(config), "again"), "run")


def test_configs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load("mnist/vqgan").train.steps = 3


def test_flatten_gives_trackers_plain_values():
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {
        "a.b": 1,
        "a.c": "[1, 2]",
        "d": "None",
    }
