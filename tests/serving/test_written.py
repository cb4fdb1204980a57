import shlex

import numpy as np
import pytest
from PIL import Image

from maskgit.serving import Studio
from maskgit.serving.written import _label_texts
from tests.conftest import cli
from tests.serving.conftest import as_address, as_image, drawing, editing, mask


def done(events):
    *_, last = events
    return last


def bits(picture):
    with Image.open(picture) as image:
        return [
            np.asarray(image.convert("RGB")) for image.n in range(getattr(image, "n_frames", 1)) if not image.seek(image.n)
        ]  # fmt: skip


ASKED = {
    "its own settings": drawing(),
    "one of a class": drawing(labels=[1], per_label=1),
    "every setting": drawing(sampler="halton", steps=3, guidance=2.5, temperature=0.75),
}


@pytest.mark.parametrize("text", ASKED.values(), ids=ASKED)
def test_command_and_python_draw_the_same_bits(text, run, tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studio = Studio(tiny_pipeline, str(run))
    found = done(studio.draw(text))
    command = shlex.split(found["command"])
    assert command[0] == "maskgit" and cli(*command[1:]) == 0
    for name in ("grid.png", "strip.png", "fill.gif"):
        file = done(studio.file(name, text))
        assert file["name"] == name
        mine, its = bits(as_image(file["address"]).fp), bits(name)
        assert len(mine) == len(its) and all(map(np.array_equal, mine, its))
    exec(found["python"], {})
    for seed, address in zip(found["seeds"], found["images"], strict=True):
        assert np.array_equal(np.asarray(as_image(address)), np.asarray(Image.open(f"{seed}.png")))


EDITS = {
    "mask": editing("inpaint", mask=as_address(mask())),
    "box": editing("inpaint", box=[4, 0, 12, 8], steps=2, guidance=2),
    "margins": editing("outpaint", margins=[4, 0, 8, 0]),
    "keep": editing("variation", keep=0.25, sampler="halton"),
}


@pytest.mark.parametrize("text", EDITS.values(), ids=EDITS)
def test_command_and_python_edit_the_same_bits(text, run, tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studio = Studio(tiny_pipeline, str(run))
    found = done(studio.edit(text))
    for name in ("before", "mask"):
        if found[name]:
            as_image(found[name]).save(f"{name}.png")
    assert cli(*shlex.split(found["command"])[1:]) == 0
    edited = np.asarray(as_image(found["images"][0]))
    assert np.array_equal(edited, np.asarray(Image.open("edited.png")))
    for kind, name in (("grid.png", "edited.png"), ("strip.png",) * 2, ("fill.gif",) * 2):
        file = done(studio.file(kind, text))
        mine, its = bits(as_image(file["address"]).fp), bits(name)
        assert file["name"] == name and len(mine) == len(its)
        assert all(map(np.array_equal, mine, its))
    exec(found["python"], {})
    assert np.array_equal(edited, np.asarray(Image.open("edited.png")))


def test_names_are_written_where_they_mean_the_class():
    assert _label_texts([0, 1], ["bag", "ankle boot"]) == ["bag", "ankle boot"]
    assert _label_texts([1], ["bag", "-rf"]) == ["1"]
    assert _label_texts([0, 1], ["1", "0"]) == ["#0", "#1"], "names that are other numbers"
    assert _label_texts([0, 2], ["a", "b", "c, d"]) == ["a", "c, d"]
    assert _label_texts([0, 1], ["a", "a"]) == ["0", "1"], "two classes of one name"
