import pytest

from maskgit.cli.own.choosing import tokenizer_model
from maskgit.cli.own.speed import chosen_threads, generator_step, pick, tokenizer_step


def test_threads_change_only_for_a_clear_gain_and_the_others_are_said():
    assert chosen_threads({1: 1.0, 2: 0.6}, now=2) == (
        2,
        "2 threads; 1 would take 1.7 times as long",
    )
    busy = chosen_threads({1: 1.0, 2: 3.0}, now=2)
    assert busy.number == 1 and "the machine is busy" in busy.says and "3.0 times" in busy.says
    assert chosen_threads({1: 1.0, 2: 0.9}, now=1).number == 1, "not worth another number"
    assert chosen_threads({1: 1.0}, now=1) == (1, "1 thread")


@pytest.mark.parametrize(("longest", "place"), [(0.5, 0), (1, 0), (2, 1), (3.5, 2), (9, 3)])
def test_the_dearest_that_fits_is_picked_and_the_cheapest_if_none_does(longest, place):
    assert pick([1, 2, 3, 4], float, longest) == place


def test_what_is_measured_costs_what_it_is():
    small = tokenizer_step(16, 3, tokenizer_model([8, 8], 4, 3))
    net = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
    assert small > 0 and generator_step(2, 16, net) > 0
