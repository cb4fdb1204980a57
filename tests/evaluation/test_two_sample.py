import math
from statistics import NormalDist

import pytest
import torch

from maskgit.evaluation import two_sample
from maskgit.evaluation.two_sample import Discriminator, auc, tell_apart


def noise(count, seed, *, channels=1, side=8):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side + 2), generator=draws).byte()


def brightnesses(count, seed, shift):
    """Images of one brightness each, normal about 120 + 30 shift, 30 wide."""
    draws = torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    return (120 + 30 * (draws + shift)).round().clamp(0, 255).byte().expand(-1, 1, 8, 8)


def standard_error(area, count):
    """Of an AUC with `count` images of either side, at most (Hanley & McNeil 1982)."""
    pairs = area / (2 - area) + 2 * area**2 / (1 + area) - 2 * area**2
    return math.sqrt((area * (1 - area) + (count - 1) * pairs) / count**2)


def test_auc_counts_the_pairs():
    real, fake = torch.tensor([0.0, 1.0, 2.0, 2.0]), torch.tensor([2.0, -1.0, 5.0])
    pairs = [0.5 if f == r else float(f > r) for f in fake for r in real]
    assert auc(real, fake) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(fake, real) == pytest.approx(1 - auc(real, fake))


@pytest.mark.parametrize("channels", [1, 3])
def test_one_distribution_is_not_told_apart(channels):
    sides = noise(800, 1, channels=channels), noise(800, 2, channels=channels)
    found = tell_apart(*sides)
    assert len(found.real) == len(found.fake) == 400, "the half that it has not seen"
    assert auc(*found) == pytest.approx(0.5, abs=3 * standard_error(0.5, 400))


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_the_best_that_can_be_told_is_nearly_told(shift):
    """Of two normal brightnesses, `shift` standard deviations apart: Phi(shift / sqrt 2)."""
    best = NormalDist().cdf(shift / math.sqrt(2))
    found = auc(*tell_apart(brightnesses(1000, 1, 0.0), brightnesses(1000, 2, shift)))
    assert found == pytest.approx(best, abs=0.01 + 2 * standard_error(best, 500))


def test_what_differs_in_every_image_is_told():
    """Fine structure: neighbours of the fake ones are alike."""
    real, fake = noise(300, 1), noise(300, 2)
    fake[..., 1::2] = fake[..., ::2]
    assert auc(*tell_apart(real, fake)) > 0.99


def test_the_same_images_give_the_same_number_and_draw_nothing_from_others(monkeypatch):
    monkeypatch.setattr(two_sample, "STEPS", 50)
    sides = brightnesses(200, 1, 0.0), brightnesses(200, 2, 1.0)
    first, state = tell_apart(*sides), torch.get_rng_state()
    torch.rand(3)
    again = tell_apart(*sides)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    torch.set_rng_state(state)
    tell_apart(*sides)
    assert torch.get_rng_state().equal(state)


def test_a_picture_of_both_sides_is_never_learnt_from_one_and_met_in_the_other(monkeypatch):
    """Copies in another order: else a net that remembers them says of each the wrong side."""
    images, seen = noise(400, 1), []
    monkeypatch.setattr(
        two_sample, "_trained", lambda *parts: seen.extend(parts) or Discriminator(1, 8)
    )
    monkeypatch.setattr(
        two_sample, "_scores", lambda _, tested: seen.append(tested[None]) or tested
    )
    tell_apart(images, torch.cat([images[:300].flip(0), noise(100, 2)]))
    learnt, _, *tested = seen
    keys = [
        {row.numpy().tobytes() for part in parts for row in part.flatten(0, 1)}
        for parts in ([learnt], tested)
    ]
    assert not keys[0] & keys[1]


def test_too_few_or_unequal_sides_are_refused():
    with pytest.raises(ValueError, match="40 at least, not 39 and 39"):
        tell_apart(noise(39, 1), noise(39, 2))
    with pytest.raises(ValueError, match="as many images of either side.* not 50 and 60"):
        tell_apart(noise(50, 1), noise(60, 2))


@pytest.mark.parametrize("side, most", [(8, 94_000), (28, 94_000), (64, 250_000), (256, 550_000)])
def test_the_net_is_small_whatever_the_size(side, most):
    net = Discriminator(3, side)
    assert net(torch.zeros(2, 3, side, side + 6)).shape == (2,)
    assert sum(weight.numel() for weight in net.parameters()) < most
