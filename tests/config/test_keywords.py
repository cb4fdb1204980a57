from pathlib import Path

import pytest

from maskgit.config.keywords import keywords_of
from maskgit.editing.operations import EDITS
from tests.config.conftest import FOUND


def test_a_keyword_says_where_it_belongs_and_how_it_is_written():
    assert list(FOUND) == ["radius", "at", "mask", "twice", "by"]
    assert {name: word.written for name, word in FOUND.items()} == {"radius": float, "at": str, "mask": Path, "twice": bool, "by": str}  # fmt: skip
    assert FOUND["radius"].entries == ("blur", "paste") and FOUND["mask"].required_by == ("paste",)
    assert FOUND["radius"].help == "blur, paste: in pixels." and FOUND["twice"].help == "paste."


@pytest.mark.parametrize("what", EDITS)
def test_every_option_of_an_edit_is_told_and_the_same_in_all_edits(what):
    """One line of the command's help stands for the keyword of all of them."""
    own, shared = keywords_of({what: EDITS[what]}, ["label", "seed"]), keywords_of(EDITS)
    for name, word in own.items():
        assert word.mark(str) and (word.kind, word.marks) == (shared[name].kind, shared[name].marks)
