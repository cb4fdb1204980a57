import unicodedata

import pytest

from maskgit.pipeline.labels import label_of, numbers_of, parse_labels

TO_12 = [str(number) for number in range(1, 13)]


def test_a_range_over_numbered_classes_means_their_names():
    assert parse_labels("1-3", TO_12) == [0, 1, 2]
    assert parse_labels("9-12", TO_12) == [8, 9, 10, 11]
    assert parse_labels("10-20", ["5", "20", "10"]) == [2, 1]
    assert parse_labels("0-2", ["bag", "coat", "boot"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("word", "names"), [("3", TO_12), ("0", ["1", "0"]), ("1", ["cat", "dog", "1"])]
)
def test_a_number_of_one_class_that_is_the_name_of_another_is_refused(word, names):
    with pytest.raises(ValueError, match=rf"write ={word} for the name, #{word} for the number"):
        parse_labels(word, names)
    assert parse_labels(f"={word},#{word}", names) == [names.index(word), int(word)]


def test_where_name_and_number_agree_there_is_nothing_to_ask():
    assert parse_labels("3,7-9", [str(number) for number in range(10)]) == [3, 7, 8, 9]


def test_names_with_commas_and_dashes_can_be_asked_for():
    names = ["hen", "hen, wild", "t-shirt", "1-2", "a,b,c"]
    assert parse_labels("hen, wild,t-shirt", names) == [1, 2]
    assert parse_labels("hen,a,b,c,hen, wild,1-2", names) == [0, 4, 1, 3]


def test_a_name_is_the_same_however_its_letters_are_composed():
    for form in ("NFC", "NFD"):
        assert label_of(unicodedata.normalize(form, "Überläufer"), ["café", "Überläufer"]) == 1
        names = [unicodedata.normalize(form, "café")]
        assert parse_labels("café", names) == [0]


@pytest.mark.parametrize("text", ["3-1", "5-3,0", "0-99", "#12", "=bag", "-1", "", " , "])
def test_what_no_class_has_is_refused(text):
    with pytest.raises(ValueError, match=r"goes down|no class|no labels"):
        parse_labels(text, TO_12)


def test_names_and_numbers_are_mixed_in_python():
    assert numbers_of(["bag", 2, "1", "#0", "=coat"], ["bag", "coat", "boot"]) == [0, 2, 1, 0, 1]
    assert numbers_of("coat", ["bag", "coat"]) == [1] and numbers_of(3, ["bag"]) == 3
    with pytest.raises(ValueError, match="write =3 for the name, #3 for the number"):
        numbers_of([0, "3"], TO_12)
    with pytest.raises(ValueError, match="no class 'drake', did you mean 'drakes'"):
        numbers_of(["drake"], ["drakes"])


def test_many_classes_are_not_all_listed_but_the_nearest_is_found():
    with pytest.raises(ValueError, match="did you mean 'class 0987'.*…") as error:
        label_of("clas 0987", [f"class {number:04}" for number in range(1000)])
    assert len(str(error.value)) < 600
