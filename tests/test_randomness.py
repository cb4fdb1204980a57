import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskgit.randomness import choices, generator, mixed_seed, permutation, uniforms


def test_draws_are_functions_of_their_place():
    assert mixed_seed("mask", 2, 3) == mixed_seed("mask", 2, 3) != mixed_seed("mask", 3, 2)
    one, other = (torch.rand(4, generator=generator("mask", 2)) for _ in range(2))
    assert torch.equal(one, other)
    assert (permutation(10, 0, 1) == permutation(10, 0, 1)).all()
    assert (permutation(10, 0, 1) != permutation(10, 0, 2)).any()


def test_other_parts_more_of_them_or_another_purpose_are_another_stream():
    """NumPy's SeedSequence fills up with zeros, and cuts numbers into words of 32 bits."""
    places = [(), (0,), (5,), (0, 5), (5, 0), (0, 5, 0), (0, 5, 0, 0), (-5,), (5 + 2**32,), (5, 1)]
    seeds = [mixed_seed(purpose, *place) for purpose in ("mask", "times", "") for place in places]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
    assert (permutation(50, 5 + 2**32, 0) != permutation(50, 5, 1)).any()


def test_a_row_of_noise_knows_its_seed_only():
    both = uniforms([5, 9], 2, (3,))
    assert torch.equal(both[1:], uniforms([9], 2, (3,)))
    assert not torch.equal(both[0], uniforms([5], 3, (3,))[0])


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1), max_size=4),
    st.integers(0, 2**31),
    st.sampled_from([(), (3,), (2, 5)]),
)
def test_a_row_of_noise_is_a_philox_generator_of_its_own(seeds, round_, shape):
    rows = uniforms(seeds, round_, shape)
    assert rows.shape == (len(seeds), *shape)
    for row, seed in zip(rows, seeds, strict=True):
        key = np.array([seed % 2**64, round_], dtype=np.uint64)
        assert np.array_equal(
            row.numpy(), np.random.Generator(np.random.Philox(key=key)).random(shape)
        )


def test_uniforms_are_uniform():
    draws = uniforms(range(200), 0, (500,)).flatten()
    assert abs(draws.mean().item() - 0.5) < 4 / (12 * len(draws)) ** 0.5
    assert draws.min() >= 0 and draws.max() < 1


def test_choices_are_uniform_and_change_with_the_epoch():
    indices = np.arange(20_000)
    counts = np.bincount(choices(8, 0, np.zeros_like(indices), indices))
    assert ((counts - 2500) ** 2 / 2500).sum() < 24.3  # 7 degrees of freedom, p = 0.001
    first, second = (choices(2, 0, np.full_like(indices, epoch), indices) for epoch in (0, 1))
    for share in (first.mean(), (first == second).mean(), (first[1:] == first[:-1]).mean()):
        assert abs(share - 0.5) < 4 * 0.5 / len(indices) ** 0.5
