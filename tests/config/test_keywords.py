from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Ge, Len
from torch import Tensor

from maskgit.cli.derived import option_of, read, spread
from maskgit.cli.options import Sampling, set_words
from maskgit.config.keywords import keywords_of
from maskgit.editing.operations import EDITS

Places = Annotated[Sequence[Annotated[int, Ge(0)]], Len(2, 2)]


def blur(
    image,
    *,
    seed: int = 0,
    radius: Annotated[float, Ge(0), "in pixels"] = 1.0,
    at: Places | None = None,
):
    """An entry."""


def paste(
    image,
    *,
    mask: Annotated[Tensor | None, Path],
    radius: int = 2,
    twice: bool = False,
    by: Tensor = None,
):
    """Another."""


FOUND = keywords_of({"blur": blur, "paste": paste}, given=["seed"])


def test_a_keyword_says_where_it_belongs_and_how_it_is_written():
    assert list(FOUND) == ["radius", "at", "mask", "twice", "by"]
    assert {name: word.written for name, word in FOUND.items()} == {"radius": float, "at": str, "mask": Path, "twice": bool, "by": str}  # fmt: skip
    assert FOUND["radius"].entries == ("blur", "paste") and FOUND["mask"].required_by == ("paste",)
    assert FOUND["radius"].help == "blur, paste: in pixels." and FOUND["twice"].help == "paste."


def test_a_keyword_becomes_an_option_with_its_limits():
    option = option_of(FOUND["radius"])
    assert option.default is None and option.annotation.__metadata__[0].min == 0


def test_numbers_are_read_with_their_limits():
    assert read(FOUND["at"], "3,0") == [3, 0] and read(FOUND["radius"], 2.5) == 2.5
    for text in ("3", "3,-1", "3,x", "1,2,3"):
        with pytest.raises(ValueError, match="should be 2 numbers from 0 on"):
            read(FOUND["at"], text)


@pytest.mark.parametrize("what", EDITS)
def test_every_option_of_an_edit_is_told_and_the_same_in_all_edits(what):
    """One line of the command's help stands for the keyword of all of them."""
    own, shared = keywords_of({what: EDITS[what]}, ["label", "seed"]), keywords_of(EDITS)
    for name, word in own.items():
        assert word.mark(str) and (word.kind, word.marks) == (shared[name].kind, shared[name].marks)


def test_a_command_gets_one_value_of_a_class_of_options():
    got = {}

    def draw(run: str, *, sampling: Sampling, seed: int = 0, **own: object):
        got.update(run=run, sampling=sampling, seed=seed, own=own)

    command = spread(draw, FOUND)
    names = list(command.__signature__.parameters)
    assert names[:3] == ["run", "preset", "sampler"] and names[-6:] == ["seed", *FOUND]
    values = dict.fromkeys(names) | {"run": "r", "steps": 3, "seed": 1, "at": "1,2"}
    command(**values)
    assert got == {"run": "r", "sampling": Sampling(steps=3), "seed": 1, "own": {"at": [1, 2]}}


def test_sampling_options_are_those_of_a_pipeline():
    sampling = Sampling(
        sampler="{name: remask, eta: 0.1}", guidance="2", negative="coat", temperature="1.2,0.8"
    )
    wanted = {"sampler": {"name": "remask", "eta": 0.1}, "guidance": 2, "temperature": (1.2, 0.8)}
    assert sampling.options() == {**wanted, "negative": "coat"}
    assert sampling.options({"coat": 1}.get) == {**wanted, "negative": 1}
    assert Sampling().options() == {}


def test_words_set_any_option_on_top_of_the_others():
    words = ["sampler.temperature=.8", "guidance.schedule=linear", "sampler.eta=1e-1"]
    found = set_words({"guidance": 3, "temperature": 1.0, "steps": 4}, words)
    assert found == {
        "guidance": {"scale": 3, "schedule": "linear"},
        "temperature": 0.8,
        "eta": 0.1,
        "steps": 4,
    }
    assert set_words({}, ["sampler.name=halton"]) == {"sampler": "halton"}


@pytest.mark.parametrize(
    ("word", "message"),
    {
        "smpler.eta=1": "unknown section of --set 'smpler', did you mean 'sampler'",
        "sampler.negative=coat": "unknown option of a sampler 'negative'",
        "sampler=halton": "--set is written sampler.option=value, not sampler=halton",
        "sampler.eta": "an override is written section.key=value",
        "sampler.eta=${oc.env:HOME}": "interpolation is not allowed",
    }.items(),
)
def test_a_wrong_word_is_refused(word, message):
    with pytest.raises(ValueError) as error:
        set_words({}, [word])
    assert message in str(error.value)
