import json
from types import SimpleNamespace

import pytest
import torch

from maskgit.training import guard
from maskgit.training.guard import (
    HIGH_IN_A_ROW,
    IN_A_ROW,
    LEAST,
    Guard,
    check_alike,
    not_finite,
)


def test_ten_steps_in_a_row_that_are_given_up_are_one_too_many():
    watch = Guard()
    assert [watch.gave_up() for _ in range(IN_A_ROW - 1)] == [False] * (IN_A_ROW - 1)
    watch.passed(1.0)
    assert not watch.gave_up()
    assert any(watch.gave_up() for _ in range(IN_A_ROW - 1))


def test_a_loss_ten_times_its_median_for_twenty_steps_is_a_divergence():
    watch = Guard()
    assert not any(watch.passed(1.0 + i % 3) for i in range(3 * LEAST))
    assert not any(watch.passed(100.0) for _ in range(HIGH_IN_A_ROW - 1))
    assert not watch.passed(2.0), "it came back"
    assert [watch.passed(100.0) for _ in range(HIGH_IN_A_ROW)][-1]


def test_no_loss_is_high_before_a_median_is_known_nor_against_a_negative_one():
    assert not any(Guard().passed(1e9) for _ in range(3 * HIGH_IN_A_ROW))
    watch = Guard()
    assert not any(watch.passed(-1.0) for _ in range(LEAST))
    assert not any(watch.passed(5.0) for _ in range(2 * HIGH_IN_A_ROW))


def test_a_guard_goes_on_from_its_state_as_it_was():
    draws = torch.rand(300, generator=torch.Generator().manual_seed(0)).tolist()
    losses = [1 + draw for draw in draws[:100]] + [50.0] * 7 + draws[100:]
    whole, cut = Guard(), Guard()
    for number, loss in enumerate(losses):
        if number == 105:
            cut = Guard(json.loads(json.dumps(cut.state)))
        assert whole.passed(loss) == cut.passed(loss)
    assert whole.state == cut.state


def test_the_first_number_that_is_not_finite_is_named():
    good, bad = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert not_finite({"a": {"x": good, "n": torch.tensor(3)}}) is None
    assert not_finite({"a": {"x": good}, "b": {"y": bad}}) == "b: y"


@pytest.mark.parametrize("number", [guard.FACTOR, guard.WINDOW, guard.CHECK_EVERY])
def test_the_numbers_make_sense(number):
    assert number > 1


def test_processes_whose_weights_differ_stop_with_the_step():
    """One bit of one tensor of one of three processes."""
    module = torch.nn.Linear(2, 2)
    learners = {"net": SimpleNamespace(alike=module.state_dict)}

    def gathered(sums, drift):
        rows = sums.repeat(3, 1)
        rows[2, 1] += drift
        return rows

    for drift in (0, 1):
        launch = SimpleNamespace(
            num_processes=3, device="cpu", gather=lambda sums, drift=drift: gathered(sums, drift)
        )
        if not drift:
            check_alike(launch, learners, 7)
            continue
        with pytest.raises(RuntimeError, match=r"process 2 .* at step 7 \(net.bias\)"):
            check_alike(launch, learners, 7)
