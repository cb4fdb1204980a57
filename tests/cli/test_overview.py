import pytest

from tests.conftest import cli
from vqgan.weights import save_weights


def test_info_of_a_config_says_what_an_image_costs(capfd):
    assert cli("info", "mnist/vqgan") == 0
    out = capfd.readouterr().out
    assert (
        "codes: 240 in a grid of 7x7 for 28x28 pixels (f4)" in out
        and "quantizer: 0.00 M numbers" in out
    )
    assert "discriminator" not in out
    assert cli("info", "imagenet256/vqgan") == 0
    assert "discriminator: " in capfd.readouterr().out
    assert cli("info", "mnist/maskgit") == 0
    [line] = [line for line in capfd.readouterr().out.splitlines() if "a round" in line]
    giga = float(line.split("parameters, ")[1].split()[0])
    millions = float(line.split(": ")[1].split()[0])
    # layers, attention, head
    matrices = 2 * 49 * (6 * (4 * 128**2 + 8 * 128**2 + 4 * 128 * 49 / 2) + 128 * 240) / 1e9
    assert giga == pytest.approx(matrices, rel=0.03) and 1.5 < millions < 1.8


def test_list_names_every_config_and_table(capfd):
    assert cli("list") == 0
    out = capfd.readouterr().out
    for word in (
        "mnist/vqgan",
        "imagenet256/maskgit",
        "fsq (levels=(8, 6, 5))",
        "confidence",
        "huggingface",
        "arccos",
    ):
        assert word in out


def test_a_header_that_its_tensors_belie_is_refused_before_its_cost_is_told(tmp_path, capfd):
    path = tmp_path / "t.safetensors"
    save_weights(path, {}, "tokenizer", {"model": {"widths": [2**20, 2**20]}})
    assert cli("info", path) == 2
    assert "header" in capfd.readouterr().err


def test_info_of_a_config_takes_overrides(capfd, tmp_path):
    assert cli("info", "mnist/vqgan", "model.widths=[32,48]", "run=elsewhere") == 0
    told = capfd.readouterr().out
    assert "into elsewhere" in told and "widths: (32, 48)" in told
    assert cli("info", tmp_path, "a.b=c") == 2
    assert "is no config: a.b=c has nothing to override" in capfd.readouterr().err
