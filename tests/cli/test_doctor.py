import pytest

from maskgit.config.loading import save
from maskgit.data.tokenization import tokenize_dataset
from maskgit.processes import held
from maskgit.training.checkpoints import checkpoints
from maskgit.training.trainer import train
from tests.conftest import cli


def found(capfd, *words):
    """name -> (whether it is well, what is said), of each line of the doctor, and the status."""
    status = cli("doctor", *words)
    lines = [line.split(": ", 1) for line in capfd.readouterr().out.splitlines()]
    return status, {head[6:]: (head.startswith("ok"), text) for head, text in lines}


def test_of_the_machine_it_names_versions_devices_and_precision(capfd):
    status, lines = found(capfd)
    assert status == 0 and all(good for good, _ in lines.values())
    assert {"versions", "extras", "devices", "precision"} == lines.keys()
    assert (
        "GFLOP/s" in lines["precision"][1] and "vector-quantize-pytorch 1." in lines["versions"][1]
    )


def test_before_a_run_it_says_what_is_lacking_and_how_to_get_it(tiny_configs, tmp_path, capfd):
    vqgan, generator = tiny_configs
    save(vqgan, tmp_path / "vqgan.yaml")
    save(generator, tmp_path / "maskgit.yaml")
    status, lines = found(capfd, tmp_path / "vqgan.yaml")
    assert status == 0
    assert lines["data"][1] == "images: train 24, validation 8, of 2 classes"
    assert "GiB free" in lines["run"][1] and not (tmp_path / "vqgan").exists()
    status, lines = found(capfd, tmp_path / "maskgit.yaml")
    assert status == 2
    assert not lines["tokenizer"][0] and "train it first" in lines["tokenizer"][1]
    assert not lines["codes"][0] and "maskgit tokenize" in lines["codes"][1]


@pytest.fixture
def trained(tiny_configs):
    """The runs of both stages."""
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    return tiny_configs


def test_of_a_run_it_verifies_checkpoints_codes_and_weights(trained, capfd):
    _, generator = trained
    status, lines = found(capfd, generator.run)
    assert status == 0, lines
    assert "goes on from step_00000006" in lines["checkpoints"][1]
    assert lines["exported"] == (True, "pipeline") and "verified" in lines["codes"][1]


def test_damage_and_others_at_work_are_named(trained, tmp_path, capfd):
    _, generator = trained
    for path in checkpoints(tmp_path / "maskgit"):
        (path / "state.json").write_text("{}")
    (tmp_path / "vqgan" / "tokenizer.safetensors").write_bytes(b"cut")
    with held(generator.run, "train"):
        status, lines = found(capfd, generator.run)
    assert status == 2
    assert not any(lines[name][0] for name in ("run", "tokenizer", "checkpoints"))
    assert "in use by train" in lines["run"][1]
    assert "state.json does not match its sha256" in lines["checkpoints"][1]


def test_what_is_no_run_and_no_config_is_said_in_a_line(tmp_path, capfd):
    for path in (tmp_path, tmp_path / "none.yaml"):
        status, lines = found(capfd, path)
        assert status == 2 and not lines["config"][0]
