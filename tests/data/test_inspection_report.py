import numpy as np
from PIL import Image

from maskgit.data.inspection import Inspection, Seen, inspect
from maskgit.data.inspection_report import inspection_report
from maskgit.data.likeness import likeness
from maskgit.data.sources.source import Skipped


def made(counts, **of_all):
    """An inspection of as many images as `counts` says of each class, all alike but in size."""
    names = tuple(f"c|{i}" for i in range(len(counts)))
    plain = {"has_alpha": False, "is_colour": True, "num_colours": 65} | of_all
    seen = [
        Seen("train", i, f"{i}.png", label, (32, 32), ".png", likeness=likeness(Image.new("L", (2, 2))), **plain)
        for label, count in enumerate(counts)
        for i in range(min(count, 3))
    ]  # fmt: skip
    return Inspection("mine", names, {"train": np.array(counts)}, Skipped(), seen)


def test_what_to_know_comes_first_and_names_the_setting():
    found = made([500, 20, 30], has_alpha=True, num_colours=8)
    text = inspection_report(found, "sheet.png")
    head = text[: text.index("## Classes")]
    assert text.startswith("# mine\n\n**550 images of 3 classes** (550 train).")
    for setting in ("data.channels=4", "data.channels=3", "data.resample=nearest", "balance=sqrt"):
        assert setting in head
    assert "25 times" in head and "2 classes have fewer than 50" in head
    assert "![Some images of each class](sheet.png)" in head and "9 of them" in text
    assert r"c\|0" in text, "a name breaks no table"


def test_nothing_is_said_of_what_is_as_it_should_be():
    text = inspection_report(made([60, 60], is_colour=False))
    assert "All are grey: `data.channels=1`" in text and "Everything was read." in text
    for word in ("transparent", "balance", "nearest", "fewer than", "contain"):
        assert word not in text


def test_duplicates_in_both_splits_are_a_share_of_validation(tmp_path):
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        for i, colour in enumerate(("red", "blue") if name == "val" else ("red", "green")):
            Image.new("RGB", (4, 4), colour).save(tmp_path / name / f"{i}.png")
    text = inspection_report(inspect({"name": "folder", "root": str(tmp_path)}))
    assert "50% of the validation images have a near duplicate" in text
    assert "2 images (50%) look like another one, in 1 groups; 1 groups lie in both splits" in text
