import numpy as np
import pytest
from PIL import Image

from maskgit.cli.own import choosing
from maskgit.cli.own.choosing import choose_all
from maskgit.data.inspection import Inspection, Seen
from maskgit.data.likeness import likeness
from maskgit.data.sources.source import Skipped


def data(size=(72, 72), classes=3, count=9000, **of_all):
    """An inspection of images that are all alike."""
    plain = {"has_alpha": False, "is_colour": True, "num_colours": 65} | of_all
    same = likeness(Image.new("L", (2, 2)))
    seen = [Seen("train", i, f"{i}.png", 0, size, ".png", likeness=same, **plain) for i in range(9)]
    names = tuple(map(str, range(classes)))
    counts = {"train": np.full(classes, count // classes)}
    return Inspection("mine", names, counts, Skipped(), seen)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Seconds of a step as they grow with what is asked of a machine, of a given speed."""
    speed = {"seconds": 1e-8}

    def tokenizer(size, channels, model):
        return speed["seconds"] * size**2 * model["widths"][0] ** 1.5

    def generator(cells, codes, model):
        return speed["seconds"] * cells**2 * model["dim"] * model["depth"] * 2

    monkeypatch.setattr(choosing, "tokenizer_step", tokenizer)
    monkeypatch.setattr(choosing, "generator_step", generator)
    return speed


def test_sprites_on_a_quick_machine():
    plan = choose_all(data(has_alpha=True, num_colours=20), "mine", 25, None)
    assert plan.data == {"image_size": 64, "channels": 4, "flip": False, "resize": "contain"}
    assert plan.downscale == 4 and plan.cells == 16
    assert plan.generator["dim"] == 384 and plan.tokenizer["widths"][0] == 128
    assert sum(plan.shares.values()) < 1 and {*plan.shares} >= {"perceptual", "classifier"}
    said = "\n".join(plan.says)
    for word in ("image size 64", "channels 4", "f4", "1000 codes", "would lose rows of pixels"):
        assert word in said


def test_a_slow_machine_gets_less_of_everything(machine):
    quick = choose_all(data(), "mine", 25, None)
    machine["seconds"] = 1e-6
    slow = choose_all(data(), "mine", 25, None)
    assert slow.data["image_size"] < quick.data["image_size"]
    assert slow.tokenizer["widths"][0] < quick.tokenizer["widths"][0]
    assert slow.generator["depth"] < quick.generator["depth"]
    assert not any("NOT ENOUGH TIME" in line for line in quick.says)
    hurried = choose_all(data(), "mine", 1, None)
    assert sum("NOT ENOUGH TIME" in line for line in hurried.says) == 2
    longer = choose_all(data(), "mine", 250, None)
    assert longer.minutes_of("vqgan") == 90 and longer.steps_of("vqgan") >= 1500


@pytest.mark.parametrize(("size", "downscale", "cells"), [(32, 4, 8), (64, 4, 16), (128, 8, 16), (256, 16, 16)])  # fmt: skip
def test_the_grid_stays_small_where_images_are_large(size, downscale, cells):
    plan = choose_all(data((300, 300)), "mine", 25, size)
    assert (plan.data["image_size"], plan.downscale, plan.cells) == (size, downscale, cells)


def test_grey_square_images_of_one_class():
    plan = choose_all(data((28, 28), 1, 500, is_colour=False), "mine", 2, None)
    assert plan.data == {"image_size": 32, "channels": 1, "flip": False}
    assert plan.tokenizer["quantizer"]["levels"] == [8, 8, 8]
    assert {*plan.shares} == {"vqgan", "maskgit"}, "nobody has anything to judge"
    assert plan.generator["dim"] <= 192, "few images"


def test_frames_stay_together_and_small_classes_are_shown_more_often(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = data(count=900)
    found.counts["train"][0] = 20
    folder = {"name": "folder", "root": "mine"}

    def made(names):
        splits = ["train", "validation"] * 5
        found.seen = [one._replace(name=n, split=s) for one, n, s in zip(found.seen, names, splits, strict=False)]  # fmt: skip
        found.groups = [[0, 1], [2, 3]]
        return choose_all(found, folder, 25, None).data

    names = [f"mine/a/elf-{i}-run-{k}.png" for i in range(3) for k in range(3)]
    (tmp_path / "mine" / "a").mkdir(parents=True)
    for name in names:
        Image.new("L", (4, 4)).save(tmp_path / name)
    plan = made(names)
    assert plan["source"] == folder | {"group": choosing.FRAMES} and plan["balance"] == "sqrt"
    assert "source" not in made([f"mine/a/{i}.png" for i in range(9)]), "numbers alone tell nothing"
    for split in ("train", "val"):
        (tmp_path / "mine" / split / "a").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "mine" / split / "a" / "elf-1.png")
    assert "source" not in made(names), "folders say which validate"


def test_pixel_art_that_divides_stays_sharp():
    for side in (64, 16):
        plan = choose_all(data((side, side), num_colours=9), "mine", 25, 32)
        assert plan.data["resample"] == "nearest"
