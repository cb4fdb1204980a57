"""What chance decides in a step is the batch's, whoever shares it."""

import pytest
import torch

from maskgit.schedules import SCHEDULES
from tests.model.conftest import draws, ours

GRID = (4, 6)


@pytest.fixture
def wrapper():
    return ours(
        self_cond=True, no_replace_prob=0.2, random_token_prob=0.3, condition_dropout=0.4
    ).train()


def test_the_parts_of_all_processes_are_the_whole(wrapper):
    whole = wrapper.draw(16, GRID, draws())
    found = {}
    for world, parts in ((1, 1), (1, 4), (2, 2), (8, 1)):
        for rank in range(world):
            mine = range(rank, 16, world)
            for number, part in enumerate(whole.of(slice(rank, None, world)).split(parts)):
                for image in range(len(part.t)):
                    place = mine[number * len(mine) // parts + image]
                    shown = part.shown[image]
                    assert torch.equal(found.setdefault(place, shown), shown)
                    assert torch.equal(part.hidden[image], whole.hidden[place])
                    assert part.dropped[image] == whole.dropped[place]
                    assert part.first[image] == whole.first[place]
                    assert part.t[image] == whole.t[place]
    assert sorted(found) == list(range(16))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_places_are_those_of_the_hidden_cells(schedule):
    found = ours(schedule=schedule).draw(8, GRID, draws())
    cpu = torch.device("cpu")
    assert torch.equal(found.places(False, cpu), found.hidden.flatten().nonzero()[:, 0])
    assert torch.equal(found.places(True, cpu), torch.arange(8 * 24))


def test_the_net_is_shown_its_code_the_mask_or_another_code(wrapper):
    many = wrapper.draw(4000, GRID, draws())
    own, mask = many.shown == -1, many.shown == 16
    assert own[~many.hidden].all(), "a visible cell is shown as it is"
    hidden = many.hidden
    shares = [(kind & hidden).sum() / hidden.sum() for kind in (own, mask, ~own & ~mask)]
    assert [share.item() for share in shares] == pytest.approx(
        [0.2, 0.8 * 0.7, 0.8 * 0.3], abs=0.01
    )
    assert many.dropped.double().mean().item() == pytest.approx(0.4, abs=0.03)
    assert many.first.double().mean().item() == pytest.approx(0.75, abs=0.03)


def test_nothing_but_masks_and_times_is_drawn_in_eval_mode(wrapper):
    found = wrapper.eval().draw(8, GRID, draws())
    assert found.dropped is None and found.first is None
    assert torch.equal(found.shown, torch.where(found.hidden, 16, -1))


def test_a_step_is_the_same_with_its_draws_made_before(wrapper):
    codes, labels = torch.randint(16, (8, *GRID), generator=draws()), torch.arange(8) % 3
    made = wrapper.draw(8, GRID, draws(1))
    here = wrapper(codes, condition=labels, generator=draws(1)).loss
    assert torch.equal(wrapper(codes, condition=labels, draws=made).loss, here)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_filled_up_all_steps_have_as_many_places_and_the_same_gradient(schedule):
    """Also of the parts of each process: what fills up weighs nothing."""
    model, cpu, sizes = ours(schedule=schedule).train(), torch.device("cpu"), set()
    codes = torch.randint(16, (8, *GRID), generator=draws())
    for seed in range(5):
        whole = model.draw(8, GRID, draws(seed))
        for part in whole.of(slice(1, None, 2)).split(2)[:1]:
            sizes.add(len(part.places(False, cpu, True)))
            assert len(part.places(False, cpu, True)) >= len(part.places(False, cpu))
        gradients = []
        for filled_up in (False, True):
            model.is_compiled = filled_up
            model(codes, draws=whole).loss.backward()
            gradients.append([p.grad for p in model.parameters()])
            model.zero_grad()
        assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))
    assert len(sizes) == 1
