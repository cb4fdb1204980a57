import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from maskgit.cli.own import choosing, ending, life
from maskgit.cli.own.life import run_name
from maskgit.cli.own.speed import Threads
from maskgit.training import budget
from tests.conftest import cli


@pytest.fixture
def sprites(tmp_path, monkeypatch):
    """Squares with transparent edges, of two colours, in a folder below the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "sprites" / name).mkdir(parents=True)
        for number in range(40):
            image = Image.new("RGBA", (32, 32))
            x, y = rng.integers(0, 20, 2).tolist()
            image.paste((*colour, 255), (x, y, x + 12, y + 12))
            image.save(tmp_path / "sprites" / name / f"{number}.png")
    return tmp_path / "sprites"


@pytest.fixture
def tiny(monkeypatch):
    """Nets and times of tests."""
    monkeypatch.setattr(choosing, "WIDTHS", ([8, 8],))
    monkeypatch.setattr(choosing, "NETS", ({"dim": 16, "depth": 1, "heads": 2, "dim_head": 8},))
    monkeypatch.setattr(choosing, "tokenizer_step", lambda *asked: 0.1)
    monkeypatch.setattr(choosing, "generator_step", lambda *asked: 0.1)
    monkeypatch.setattr(life, "best_threads", lambda: Threads(1, "one"))
    monkeypatch.setattr(budget, "LONGEST", 0.01)
    monkeypatch.setattr(ending, "FEWEST", 8)
    monkeypatch.setattr(ending, "MOST", 8)


class Pictures(HTMLParser):
    """The places of a page's pictures and links."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for key, value in attributes if key in ("src", "href")]


@pytest.mark.slow
def test_a_folder_becomes_a_page_and_the_same_command_goes_on(sprites, tiny, tmp_path, capfd):
    assert cli("quickstart", "sprites", "--minutes", "0.2") == 0
    first = capfd.readouterr()
    out = tmp_path / "runs" / "sprites"
    assert "look at runs/sprites/index.html" in first.out and "image size 32" in first.err
    linked = Pictures((out / "index.html").read_text()).found
    assert {"grid.png", "reconstructions.png", "strip.png", "data.png", "vqgan.yaml"} <= {*linked}
    assert all((out / place).is_file() for place in linked)
    numbers = json.loads((out / "numbers.json").read_text())
    assert {"fid", "rfid", "floor", "psnr", "agreement"} <= {*numbers} and numbers[
        "num_images"
    ] == 8
    assert "**80 images of 2 classes**" in (out / "data.md").read_text()
    assert cli("quickstart", "sprites", "--minutes", "9") == 0
    again = capfd.readouterr().err
    assert "going on with the settings in runs/sprites (--minutes of now changes nothing" in again
    assert again.count(" already") == 5, "four trainings and the codes"
    assert cli("quickstart", "mnist5k", "--name", "sprites") == 2
    assert "is of other images" in capfd.readouterr().err


def test_a_run_is_called_as_its_images_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my pictures").mkdir()
    assert run_name("my pictures/", None) == "my pictures" and run_name("x", "other") == "other"


@pytest.mark.parametrize("word", [".", "runs/mine", "runs/mine/here"])
def test_a_run_does_not_lie_among_the_images_nor_they_in_it(tmp_path, monkeypatch, word, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine" / "here").mkdir(parents=True)
    kept = tmp_path / "runs" / "mine" / "here" / "a.png"
    Image.new("L", (4, 4)).save(kept)
    assert cli("quickstart", word, "--name", "mine", "--fresh") == 2
    assert "would lie in one another: call quickstart from" in capsys.readouterr().err
    assert kept.is_file()
