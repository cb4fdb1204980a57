from itertools import pairwise

import pytest
import torch

from maskgit.samplers import engine, scored
from tests.conftest import Flat
from tests.samplers.conftest import GRID, NUM_CODES, empty, run


class Scored(Flat):
    """Critics that find cell i more suspect the larger i is."""

    def scores(self, codes, r):
        return torch.arange(codes[0].numel()).view(codes.shape[1:]).expand(codes.shape).double()

    self_scores = scores


def test_confidence_keeps_what_is_surest():
    """Without noise in the choice, the cells that stay are those drawn with the highest
    probability."""
    predictor = Flat(GRID, NUM_CODES)
    first = run("confidence", predictor, empty(3), range(3), steps=4, choice_temperature=0.0)[0]
    drawn = run("confidence", predictor, empty(3), range(3), steps=1)[0]  # the same draws, all kept
    sure = (
        predictor.table.log_softmax(-1).expand(3, -1, -1, -1).gather(-1, drawn[..., None])[..., 0]
    )
    for row, values, codes in zip(first, sure, drawn, strict=True):
        kept = row != NUM_CODES
        assert torch.equal(row[kept], codes[kept]) and values[kept].min() >= values[~kept].max()


def test_noise_in_the_choice_falls_to_nothing_unless_it_is_a_ramp(monkeypatch):
    seen = []
    monkeypatch.setattr(
        scored, "ramp_at", lambda value, r: seen.append((value, r)) or engine.ramp_at(value, r)
    )
    for choice in (4.5, (4.5, 2.0)):
        run("confidence", Flat(GRID, NUM_CODES), empty(1), [0], steps=4, choice_temperature=choice)
    run("critic", Scored(GRID, NUM_CODES), empty(1), [0], steps=4, noise_scale=2.0)
    assert [value for value, _ in seen] == [(4.5, 0.0)] * 3 + [(4.5, 2.0)] * 3 + [(2.0, 0.0)] * 3
    assert [r for _, r in seen] == [0.25, 0.5, 0.75] * 3


@pytest.mark.parametrize("name", ["critic", "self_critic"])
def test_a_critic_hides_the_most_suspect_cells_also_those_kept_before(name):
    given = empty(1)
    given[0, 3, 5] = 2  # the most suspect of all, but known from the start
    last = given
    for codes in run(name, Scored(GRID, NUM_CODES), given, [0], steps=6, noise_scale=0.0):
        hidden = (codes == NUM_CODES).flatten().nonzero()[:, 0].tolist()
        assert hidden == list(range(23 - len(hidden), 23))
        last = codes
    assert last[0, 3, 5] == 2


@pytest.mark.parametrize("name", ["critic", "self_critic"])
def test_known_cells_are_hidden_again_unless_they_are_kept(name):
    for keep_known in (False, True):
        rounds = run(
            name,
            Flat(GRID, NUM_CODES),
            empty(4),
            range(4),
            steps=8,
            noise_scale=50.0,
            keep_known=keep_known,
        )
        again = [((a != NUM_CODES) & (b == NUM_CODES)).any().item() for a, b in pairwise(rounds)]
        assert any(again) != keep_known
