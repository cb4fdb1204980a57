import pickle
import tracemalloc

import pytest

from maskgit.data.sources.names import Names

SOME = ["a", "", "ä/ö.png", "x\udcff y", "n01440764/n01440764_10026.JPEG"]


def test_names_are_those_that_were_given():
    names = Names(SOME)
    assert list(names) == SOME and len(names) == 5 and names[-2] == SOME[-2]
    assert names[1:4:2] == SOME[1:4:2] and "ä/ö.png" in names and names.index("") == 1
    assert list(Names(iter(()))) == [] and list(pickle.loads(pickle.dumps(names))) == SOME
    with pytest.raises(IndexError):
        names[5]


def test_many_names_take_their_letters_and_eight_bytes_each():
    """A list of them takes another 90 bytes each, in objects that every worker touches."""
    tracemalloc.start()
    names = Names(f"train/n{number % 1000:08d}/{number:08d}.JPEG" for number in range(20_000))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    letters = sum(map(len, names))
    assert kept < 1.3 * (letters + 8 * len(names)) and len(pickle.dumps(names)) < kept
