import numpy as np
import pytest
from PIL import Image

from maskgit.data.colours import unpacked
from maskgit.data.inspection import inspect, num_colours


@pytest.fixture
def zoo(tmp_path):
    """A folder of three classes: 20 colourful cats, 5 grey dogs (4 of them one picture), a bird
    that is transparent, a file that is no image and one that is broken."""
    rng = np.random.default_rng(0)
    for name in ("bird", "cat", "dog"):
        (tmp_path / name).mkdir()
    for number in range(20):
        small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        small.resize((40, 30), Image.Resampling.BICUBIC).save(tmp_path / "cat" / f"{number}.jpg")
    for number in range(5):
        grey = np.full((32, 32), 90 if number else 200, dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "dog" / f"{number}.png")
    Image.new("RGBA", (16, 32), (255, 0, 0, 100)).save(tmp_path / "bird" / "0.png")
    (tmp_path / "cat" / "notes.txt").write_text("cats")
    (tmp_path / "cat" / "broken.png").write_bytes(b"no picture")
    return tmp_path


def spec(folder, share=0.3):
    return {"name": "folder", "root": str(folder), "validation_share": share}


def test_all_that_is_there_is_counted(zoo):
    found = inspect(spec(zoo), title="zoo")
    assert found.class_names == ("bird", "cat", "dog") and found.num_images == found.opened == 27
    assert found.by_class.tolist() == [1, 21, 5] and found.imbalance == 21
    assert found.sizes == {(40, 30): 20, (32, 32): 5, (16, 32): 1}
    assert found.formats == {".jpg": 20, ".png": 6} and found.long_side == 40
    assert found.share("has_alpha") == 1 / 26 and found.share("is_colour") == 21 / 26
    assert [name.rsplit("/", 1)[1] for name, _ in found.unread] == ["broken.png"]
    assert "notes.txt" in str(found.skipped)
    assert not found.is_pixel_art
    [group] = found.groups
    assert len(group) == 4 and {found.class_names[found.seen[i].label] for i in group} == {"dog"}
    splits = {found.seen[i].split for i in group}
    assert found.leaked == ([group] if len(splits) > 1 else []) and found.mixed == []


def test_copies_in_other_classes_and_splits_are_told(tmp_path):
    rng = np.random.default_rng(1)
    for split, label in (("train", "a"), ("train", "b"), ("val", "a")):
        (tmp_path / split / label).mkdir(parents=True)
    for number in range(4):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8))
        for place in ("train/a", "train/b" if number == 0 else "", "val/a" if number == 1 else ""):
            if place:
                picture.save(tmp_path / place / f"{number}.png")
    (tmp_path / "val" / "b").mkdir()
    found = inspect(spec(tmp_path))
    assert sorted(map(len, found.groups)) == [2, 2] and len(found.mixed) == len(found.leaked) == 1
    assert found.mixed != found.leaked and found.is_pixel_art is True


def test_of_many_images_some_are_opened_and_all_are_counted(zoo):
    found = inspect(spec(zoo), most=10)
    assert found.num_images == 27 and 5 <= found.opened <= 11


def test_colours_of_palettes_with_transparency(tmp_path):
    Image.new("RGBA", (4, 4), (1, 2, 3, 0)).quantize(4).save(tmp_path / "p.png")
    image = Image.open(tmp_path / "p.png")
    image.load()
    assert image.mode == "P" and unpacked(image).mode == "RGBA"
    assert num_colours(unpacked(image)) == 1
    assert num_colours(Image.linear_gradient("L")) == 65
