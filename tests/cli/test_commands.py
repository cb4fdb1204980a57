import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from maskgit.config.loading import save
from tests.conftest import cli, repo


@pytest.fixture
def yamls(tiny_configs, tmp_path):
    for config in tiny_configs:
        save(config, tmp_path / f"{config.task}.yaml")
    return tmp_path


@pytest.mark.slow
def test_the_commands_from_images_to_samples(yamls, capfd):
    assert cli("train", yamls / "tokenizer.yaml") == 0
    assert capfd.readouterr().out.strip() == str(yamls / "vqgan" / "tokenizer.safetensors")
    assert cli("train", yamls / "maskgit.yaml") == 2
    assert "no code cache" in capfd.readouterr().err
    assert cli("tokenize", yamls / "vqgan", "--out", yamls / "codes") == 0
    assert cli("train", yamls / "maskgit.yaml", "train.steps=4") == 0
    capfd.readouterr()
    options = ("--per-label", 3, "--seed", 5, "--steps", 2, "--guidance", 1.5)
    assert (
        cli(
            "sample",
            yamls / "maskgit",
            "--out",
            yamls / "grid.png",
            *options,
            "--strip",
            yamls / "strip.png",
        )
        == 0
    )
    assert capfd.readouterr().out.split() == [str(yamls / "grid.png"), str(yamls / "strip.png")]
    assert (
        cli("sample", yamls / "maskgit", "--out", yamls / "many", "--labels", "coat,0", *options)
        == 0
    )
    names = sorted(p.name for p in (yamls / "many").glob("*.png"))
    assert names == ["000_bag_000008.png", "000_bag_000009.png", "000_bag_000010.png", "001_coat_000005.png", "001_coat_000006.png", "001_coat_000007.png"]  # fmt: skip
    assert np.asarray(Image.open(yamls / "many" / names[0])).shape == (16, 16)
    capfd.readouterr()
    for path in ("vqgan", "codes", "maskgit", "maskgit/pipeline", "vqgan/tokenizer.safetensors"):
        assert cli("info", yamls / path) == 0
        assert str(yamls / path) in capfd.readouterr().out


WRONG = {
    ("train", "mnist/vqgan", "train.step=3"): "unknown key train.step, did you mean 'steps'",
    ("train", "nowhere.yaml"): "no config nowhere.yaml",
    ("tokenize", "nowhere", "--out", "x"): "no tokenizer at nowhere",
    ("sample", "nowhere", "--out", "x.png"): "no generator in nowhere",
    (
        "sample",
        ".",
        "--out",
        "x.jpg",
    ): "x.jpg: this is written to a .png or .npz, or a folder",
    ("info", str(repo() / "README.md")): "README.md is not a safetensors file",
    ("info", "nowhere"): "is no run, pipeline, code cache, weights file or config of ours",
    ("quickstart", "mnist", "vqgn.seed=1"): "unknown stage 'vqgn', did you mean 'vqgan'",
    ("tokenize", "nowhere"): "Missing option '--out'",
    ("sample", "nowhere", "--out", "x.png", "--steps", "0"): "Invalid value for '--steps'",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_mistake_is_one_clear_line_and_status_2(arguments, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli(*arguments) == 2
    error = capfd.readouterr().err
    assert WRONG[arguments] in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_another_process_is_a_line_and_a_bug_keeps_its_traceback(monkeypatch, capfd):
    from maskgit.cli import overview

    errors = ["/third_party/gloo/gloo/transport/tcp/pair.cc: Read error", "sizes differ"]

    def failing(path, overrides):
        raise RuntimeError(errors.pop(0))

    monkeypatch.setattr(overview, "describe_path", failing)
    assert cli("info", repo()) == 2
    assert "another process of this command is gone" in capfd.readouterr().err
    with pytest.raises(RuntimeError, match="sizes differ"):
        cli("info", repo())


def test_public_names_can_be_imported():
    import maskgit
    import vqgan

    for package in (maskgit, vqgan):
        for name in package.__all__:
            assert getattr(package, name) is not None


def test_help_and_import_are_quick():
    """Neither imports torch; half a second is generous on any machine."""
    code = "import sys, maskgit, vqgan, maskgit.cli; assert not {'torch', 'x_transformers', 'accelerate'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repo())
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "maskgit", "--help"], capture_output=True, text=True, cwd=repo()
    )
    assert "quickstart" in done.stdout and time.perf_counter() - start < 2


def test_help_imports_no_torch():
    code = "import sys, maskgit.cli\ntry: maskgit.cli.main(['--help'])\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repo(), stdout=subprocess.DEVNULL)


OPTIONS = {
    "train": "",
    "tokenize": "out config batch-size overwrite",
    "sample": "out labels per-label seed preset sampler steps guidance negative temperature choice-temperature top-k top-p height width precision batch-size strip gif confidence",
    "edit": "out pairs label seed number resize box mask margins feather keep other other-label num-frames preset sampler steps guidance negative temperature choice-temperature top-k top-p precision strip gif confidence",
    "list": "",
    "info": "",
    "quickstart": "fresh",
    "evaluate": "samples reference split count metrics features weights judge seed preset sampler steps guidance negative temperature choice-temperature top-k top-p precision batch-size out",
    "tune": "sampler rounds metric trials minutes count features weights precision",
    "compare": "samplers rounds refresh count longest features weights judge precision out",
    "benchmark": "only cells params batch rounds seconds longest quick minutes count seeds data weights out",
}  # fmt: skip
"""Of version 0.1: they go on working."""


NEW = {
    "sample": {"--set", "--compile"}, "edit": {"--set"}, "evaluate": {"--set"}, "tune": {"--batch-size"},
    "compare": {"--batch-size"}, "quickstart": {"--minutes", "--size", "--name"},
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_a_command(command, capfd):
    assert cli(command, "--help") == 0
    found = re.findall(r"^  (--[a-z-]+)", capfd.readouterr().out, re.MULTILINE)
    assert len(set(found)) == len(found)
    assert set(found) - NEW.get(command, set()) == {
        "--help",
        *(f"--{name}" for name in OPTIONS[command].split()),
    }


@pytest.mark.parametrize("script", sorted(p.name for p in (repo() / "scripts").glob("*.py")))
def test_a_script_is_a_door_to_a_command(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(repo() / "scripts" / script), "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repo())},
    )
    assert done.returncode == 0 and "Usage" in done.stdout
    assert len((repo() / "scripts" / script).read_text().splitlines()) < 15


def test_a_tilde_is_ones_home_wherever_a_path_begins(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli("info", "~/nowhere") == 2
    assert str(tmp_path / "nowhere") in capfd.readouterr().err
    assert cli("train", "mnist/maskgit", "tokenizer=~/t", "run=~/r") == 2
    assert str(tmp_path / "t") in capfd.readouterr().err
    (tmp_path / "x.yaml").write_text("task: maskgit\nrun: ~/r\ntokenizer: ~/there\n")
    assert cli("train", tmp_path / "x.yaml") == 2
    assert str(tmp_path / "there") in capfd.readouterr().err
