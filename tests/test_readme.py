"""README blocks are run: Python as it stands, commands with their sizes turned down, or checked where their data is not at hand."""

import re
import shlex
import shutil

import pytest

from maskgit.cli import main
from maskgit.config import load
from tests.conftest import repo

TEXT = (repo() / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
NEED_RUN = [block for block in PYTHON if "runs/" in block]
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
TINY = {
    "vqgan": ["model.widths=[8, 8]"],
    "maskgit": ["model.dim=16", "model.depth=1", "model.heads=2", "model.dim_head=8"],
    "critic": ["model.dim=16", "model.depth=1", "model.heads=2", "model.dim_head=8"],
    "classifier": [],
}
SMALLER = {"100": "8", "1000": "12", "20": "1", "4,8,16": "2"}
SHORT = [
    f"train.{option}"
    for option in (
        "steps=2",
        "batch_size=8",
        "max_eval_images=8",
        "trackers=[]",
        "preview_every=2",
        "mixed_precision=no",
    )
]


def words_of(command):
    """A command of ours without its launcher -> its words, none for what is not ours."""
    words = shlex.split(command)
    if words[0] == "maskgit":
        return words[1:]
    if words[0] not in ("accelerate", "torchrun") or words[1] == "config":
        return None
    if "-m" in words:
        at = words.index("-m")
        assert words[at + 1] == "maskgit"
        return words[at + 2 :]
    at = next(i for i, word in enumerate(words) if word.startswith("scripts/"))
    script = (repo() / words[at]).read_text()
    return [re.search(r'main\(\["(\w+)"', script).group(1), *words[at + 1 :]]


def test_commands_are_known():
    for command in COMMANDS:
        if words_of(command) is None:
            first, *rest = shlex.split(command)
            assert (
                (first == "make" and all(f"\n{target}:" in (repo() / "Makefile").read_text() for target in rest))
                or command == ".ci/run"
                or command == "accelerate config"
                or command.startswith("pip install 'maskgit-torch[")
            ), command


@pytest.mark.slow
def test_the_commands_for_mnist_run_one_after_the_other(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(repo() / "configs", tmp_path / "configs")
    ran: list[str] = []
    for words in filter(None, map(words_of, COMMANDS)):
        if words[0] not in ("list", "info") and "mnist" not in " ".join(words):
            continue
        words = [SMALLER.get(word, word) for word in words]
        if words[0] == "train":
            again = ["train.steps=3", *SHORT[1:]]  # a training that is named a second time goes on
            words += [*(again if words[1] in ran else SHORT), *TINY[words[1].split("/")[1]]]
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0, words
        ran.append(words[1] if len(words) > 1 else words[0])
    assert len(ran) >= 14
    assert (tmp_path / "grid.png").is_file() and len(list((tmp_path / "samples").iterdir())) == 16
    written = [words[at + 1] for words in filter(None, map(words_of, COMMANDS)) for at, word in enumerate(words) if word in ("--strip", "--gif", "--confidence", "--pairs")]  # fmt: skip
    assert len(written) >= 5 and all((tmp_path / name).stat().st_size > 100 for name in written)
    monkeypatch.setattr("sys.stdout", None)
    for block in NEED_RUN:
        exec(block, {})
    assert (tmp_path / "three.png").is_file()


@pytest.mark.parametrize("command", [c for c in COMMANDS if words_of(c) and words_of(c)[0] == "train"])
def test_every_training_command_is_a_valid_config(command):
    _, name, *overrides = words_of(command)
    load(name, overrides)


@pytest.mark.parametrize("block", [block for block in PYTHON if block not in NEED_RUN])
def test_python_blocks_run(block):
    exec(block, {})


def test_pictures_and_files_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", TEXT) + re.findall(r"`((?:vqgan|maskgit|tests)/\w+\.py)`", TEXT):
        assert (repo() / path).is_file(), path


def test_nothing_is_left_to_fill_in():
    assert "@" not in re.sub(r"\S+@\S+\.\S+", "", TEXT)
