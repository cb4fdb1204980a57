import pytest

from maskgit.cli.derived import option_of, read, spread
from maskgit.cli.options import Sampling
from tests.config.conftest import FOUND


def test_a_keyword_becomes_an_option_with_its_limits():
    option = option_of(FOUND["radius"])
    assert option.default is None and option.annotation.__metadata__[0].min == 0


def test_numbers_are_read_with_their_limits():
    assert read(FOUND["at"], "3,0") == [3, 0] and read(FOUND["radius"], 2.5) == 2.5
    for text in ("3", "3,-1", "3,x", "1,2,3"):
        with pytest.raises(ValueError, match="should be 2 numbers from 0 on"):
            read(FOUND["at"], text)


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
