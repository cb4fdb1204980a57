"""README.md and the signs of the wings are run: Python as it stands, commands with their sizes
turned down, or parsed where their data is not at hand; links, pictures and paths lead somewhere."""

import re
import shlex
import shutil
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from maskgit.cli import app, main
from maskgit.config.loading import load
from tests.conftest import repo

WINGS = ("configs", "maskgit", "scripts", "vqgan")
SIGNS = sorted(path for wing in WINGS for path in (repo() / wing).rglob("README.md"))
PAGES = [repo() / "README.md", *SIGNS]
NAMES = [str(page.relative_to(repo())) for page in PAGES]
NAMED = dict(zip(NAMES, PAGES, strict=True))


@cache
def text_of(page):
    return page.read_text()


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def prose(page):
    return re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)


PYTHON = [(name, block) for name, page in NAMED.items() for block in blocks(page, "python")]
NEED_RUN = [block for _, block in PYTHON if "runs/" in block]
LINES = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
COMMANDS = list(dict.fromkeys(line.split("  #")[0].strip() for line in LINES))
TINY = {
    "vqgan": ["model.widths=[8, 8]"],
    "maskgit": ["model.dim=16", "model.depth=1", "model.heads=2", "model.dim_head=8"],
    "critic": ["model.dim=16", "model.depth=1", "model.heads=2", "model.dim_head=8"],
    "classifier": [],
    "decoder": ["loss.perceptual=null"],
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
        "precision=fp32",
    )
]
PICTURES = ("--strip", "--gif", "--confidence", "--pairs")


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


OURS = [command for command in COMMANDS if words_of(command)]


def is_run(words):
    """Whether a command is run here: those for digits, which come inside a package, and `list`."""
    digits = re.search(r"(?<!fashion_)mnist", " ".join(words))
    return words == ["list"] or (digits and words[0] not in ("benchmark", "quickstart", "serve"))


def test_other_commands_are_known():
    for command in sorted({*COMMANDS} - {*OURS}):
        first, *rest = shlex.split(command)
        if first == "make":
            makefile = (repo() / "Makefile").read_text()
            assert all(f"\n{word}:" in makefile for word in rest if "=" not in word), command
        else:
            assert command in (".ci/run", "accelerate config")


@pytest.mark.parametrize("command", OURS)
def test_every_command_is_parsed(command, monkeypatch):
    """Its options are the command's own, and their values of the right kind; nothing is run."""
    monkeypatch.setattr("maskgit.pipeline.hub.fetch_folder", lambda name, *_: Path(name))
    words = words_of(command)
    found = typer.main.get_command(app).commands[words[0]]
    found.make_context(words[0], words[1:])


@pytest.mark.slow
def test_the_commands_for_digits_run_one_after_the_other(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(repo() / "configs", tmp_path / "configs")
    ran: list[str] = []
    written = []
    for words in filter(is_run, map(words_of, OURS)):
        words = [SMALLER.get(word, word) for word in words]
        if words[0] == "train":
            again = ["train.steps=3", *SHORT[1:]]  # a training that is named a second time goes on
            words += [*(again if words[1] in ran else SHORT), *TINY[words[1].split("/")[1]]]
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0, words
        ran += words[1:2]
        written += [file for option, file in pairwise(words) if option in PICTURES]
    assert len(ran) >= 25
    assert (tmp_path / "grid.png").is_file() and len(
        list((tmp_path / "samples").glob("*.png"))
    ) == 16
    assert len(written) >= 6 and all((tmp_path / name).stat().st_size > 100 for name in written)
    monkeypatch.setattr("sys.stdout", None)
    for block in NEED_RUN:
        exec(block, {})
    assert (tmp_path / "three.png").is_file()


@pytest.mark.parametrize("command", [c for c in OURS if words_of(c)[0] == "train"])
def test_every_training_command_is_a_valid_config(command):
    _, name, *overrides = words_of(command)
    load(name, overrides)


@pytest.mark.parametrize("page, block", [pair for pair in PYTHON if pair[1] not in NEED_RUN])
def test_python_blocks_run(page, block):
    exec(block, {})


def headings(page):
    """The anchors that a page's headings get where it is shown."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_relative_to(repo()) and found.exists(), target
        assert not heading or heading in headings(found), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_named_in_the_text_exist(page):
    named = re.findall(r"`((?:configs|maskgit|scripts|tests|vqgan)/[\w./-]*)`", prose(page))
    missing = [path for path in named if not (repo() / path).exists()]
    assert not missing


def test_every_wing_is_linked_from_the_front_page():
    targets = re.findall(r"\]\(([^)\s#]+)", prose(PAGES[0]))
    assert {*SIGNS} <= {(repo() / target).resolve() for target in targets}


def test_the_front_page_is_short():
    assert len(text_of(PAGES[0]).splitlines()) <= 250


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_nothing_is_left_to_fill_in(page):
    assert "@" not in re.sub(r"\S+@\S+\.\S+", "", text_of(page))
