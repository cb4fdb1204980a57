import re
import runpy
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import repo


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(tmp_path):
    """Built, installed where nothing of the checkout is, run from another directory; no network.

    The libraries it needs are lent by this environment through a path file; the package itself is
    the wheel's.
    """
    build = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(tmp_path),
        str(repo()),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "maskgit/configs/mnist/vqgan.yaml" in names and "vqgan/tokenizer.py" in names
    assert "maskgit/pipeline/fashion/model.safetensors" in names
    assert "vqgan/README.md" in names and "maskgit/configs/README.md" in names
    assert not any(
        name.startswith(("tests", "scripts", "configs")) or name.endswith(".png") for name in names
    )
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        wheel,
    ]
    subprocess.run(install, check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
    )
    Path(site.stdout.strip(), "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    away = tmp_path / "elsewhere"
    away.mkdir()
    draw = ["sample", "fashion", "--labels", "bag", "--per-label", "1", "--out", "bag.png"]
    for command in (["--help"], draw, ["list"]):
        done = subprocess.run(
            [tmp_path / "env" / "bin" / "maskgit", *command],
            capture_output=True,
            text=True,
            cwd=away,
        )
        assert done.returncode == 0, done.stderr
    assert "mnist/vqgan" in done.stdout and (away / "bag.png").is_file()
    where = subprocess.run(
        [python, "-c", "import maskgit; print(maskgit.__file__)"],
        capture_output=True,
        text=True,
        cwd=away,
    )
    assert str(tmp_path / "env") in where.stdout


@pytest.mark.parametrize("path", sorted((repo() / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_a_data_worker_that_is_spawned_does_not_run_the_command_again(path, monkeypatch):
    """It imports the script that its parent was started with, under another name."""
    called = []
    monkeypatch.setattr("maskgit.cli.main", lambda words=None: called.append(words))
    for name, calls in (("__mp_main__", 0), ("__main__", 1)):
        runpy.run_path(str(path), run_name=name)
        runpy.run_path(str(repo() / "maskgit" / "__main__.py"), run_name=name)
        assert len(called) == 2 * calls


def test_the_floors_that_are_tried_are_those_that_are_allowed():
    """`make floors` installs the lowest version of each library that pyproject.toml names."""
    project = tomllib.loads((repo() / "pyproject.toml").read_text())["project"]
    allowed = [re.split(r">=|,", one)[:2] for one in project["dependencies"]]
    lines = (repo() / "constraints-floors.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tried.keys() == {name for name, _ in allowed}
    for name, floor in allowed:
        assert f"{tried[name]}.".startswith(f"{floor}."), name
