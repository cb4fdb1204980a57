import numpy as np
import pytest

from maskgit.data.sources.source import Skipped, describe, from_arrays, natural, shown


def test_numbers_in_names_are_sorted_as_numbers():
    names = ["10", "2", "1", "a10", "a9", "b"]
    assert sorted(names, key=natural) == ["1", "2", "10", "a9", "a10", "b"]


@pytest.mark.parametrize("wrong", [-1, 2])
def test_rows_without_a_label_are_refused_with_their_count(wrong):
    labels = np.array([0, 1, wrong, wrong])
    with pytest.raises(ValueError, match=rf"2 of 4 rows have no label of 0 \.\. 1 \({wrong}"):
        from_arrays(np.zeros((4, 2, 2), np.uint8), labels, ("a", "b"), "small")
    with pytest.raises(ValueError, match="4 images and 3 labels"):
        from_arrays(np.zeros((4, 2, 2), np.uint8), labels[:3], ("a", "b"), "small")


def test_one_line_says_what_there_is_and_what_was_left_out():
    skipped = Skipped()
    skipped.add(".txt files", "b.txt")
    skipped.add(".txt files", "a.txt")
    skipped.add(".txt files", "a.txt")
    source = from_arrays(np.zeros((2, 2, 2), np.uint8), np.zeros(2), ("a",), "small")
    line = describe({"train": source._replace(skipped=skipped), "validation": source})
    assert line == "images: train 2, validation 2, of 1 class; left out: 2 .txt files (a.txt)"


def test_classes_without_training_images_and_those_alike_but_for_case_are_named():
    names = ("A", "a", "b", "Straße", "STRASSE")
    whole = from_arrays(np.zeros((5, 2, 2), np.uint8), np.arange(5), names, "small")
    part = from_arrays(np.zeros((2, 2, 2), np.uint8), np.array([0, 3]), names, "small")
    alike = "classes of their own, though only their case differs: A and a, Straße and STRASSE"
    start = "of 5 classes; "
    assert describe({"train": whole, "validation": part}).endswith(start + alike)
    line = describe({"train": part, "validation": whole})
    assert line.endswith(f"{start}without a training image: a, b, STRASSE; {alike}")


def test_a_name_is_shown_in_one_line():
    assert shown("a\nb\x1b\udcff é") == "a\\nb\\x1b\\udcff é"
