from collections.abc import Sequence
from typing import Annotated, Any

import pytest

from maskgit.config import choices
from maskgit.config.signatures import Section


def small(*, size: int = 3):
    """An entry."""


def large(given, *, size: int, shape: Sequence[int] = (1, 2)):
    """Another, which is also given something."""


TABLE = {"small": small, "large": large}


class Chosen(Section):
    open: Annotated[Any, choices.names(lambda: TABLE, "thing", ["given"])] = "small"
    whole: Annotated[Any, choices.entry(lambda: TABLE, "thing", lambda: ["given"])] = None
    options: Annotated[Any, choices.keywords(lambda: large, ["given"])] = None
    plain: Annotated[str, choices.member(lambda: TABLE, "thing")] = "small"


def test_an_open_choice_stays_as_it_is_written_with_the_types_of_its_entry():
    assert Chosen(open="small").open == "small"
    assert Chosen(open={"name": "large", "size": 8.0}).open == {"name": "large", "size": 8}


def test_a_whole_choice_has_all_its_options_and_is_of_the_first_entry_without_a_name():
    assert Chosen(whole="small").whole.model_dump() == {"name": "small", "size": 3}
    assert Chosen(whole={"size": 5}).whole.model_dump() == {"name": "small", "size": 5}
    large = Chosen(whole={"name": "large", "size": 5}).whole
    assert large.model_dump() == {"name": "large", "size": 5, "shape": (1, 2)}


def test_keywords_are_those_of_the_one_entry():
    assert Chosen(options={"size": 2}).options.model_dump() == {"size": 2, "shape": (1, 2)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"open": "smal"}, "unknown thing 'smal', did you mean 'small'"),
        ({"open": {"name": "large"}}, "thing 'large' needs size"),
        ({"open": {"name": "small", "sise": 1}}, "has no option 'sise', did you mean 'size'"),
        ({"whole": "lage"}, "unknown thing 'lage', did you mean 'large'"),
        ({"options": {"given": 1, "size": 2}}, "unknown key"),
        ({"plain": "smal"}, "unknown thing 'smal', did you mean 'small'"),
    ],
    ids=str,
)
def test_a_wrong_choice_names_the_right_one(values, message):
    with pytest.raises(ValueError, match=message):
        Chosen(**values)


def test_a_table_is_imported_when_it_is_called():
    load = choices.table("no.such.module", "TABLE")
    with pytest.raises(ModuleNotFoundError):
        load()
    assert choices.table("maskgit.config.choices", "table")() is choices.table
