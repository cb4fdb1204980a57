"""Counter-based randomness: a draw is a function of where it is used; none is ever saved.

order = f(seed, epoch) · augmentation = f(seed, epoch, index) · the model's draws = f(seed, step,
rank) · sampling noise = f(image seed, round). A resumed run therefore draws what an uninterrupted
one would have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def mixed_seed(*parts: int) -> int:
    """One 63-bit seed from several integers; near parts give unrelated seeds."""
    state = np.random.SeedSequence([part & (2**64 - 1) for part in parts]).generate_state(
        1, np.uint64
    )
    return int(state[0] >> np.uint64(1))


def generator(*parts: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator whose state is a function of `parts`."""
    return torch.Generator(device).manual_seed(mixed_seed(*parts))


def permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: (num_items,) int64."""
    return np.random.default_rng([seed, epoch]).permutation(num_items)


def choices(num_choices: int, seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A uniform choice in [0, num_choices) for each (epoch, index): int64, by splitmix64."""
    with np.errstate(over="ignore"):
        z = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z ^= epochs.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(mixed_seed(seed))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64) % num_choices


def uniforms(seeds: Sequence[int], round_: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [0, 1) of a round: (len(seeds), *shape) float64, on CPU; row i knows seed i only.

    One Philox generator is set to the key (seed, round) of each row: to make one for each takes
    twelve times as long, longer than a small net does on a GPU.
    """
    philox = np.random.Philox(key=[0, round_])
    draws, start = np.random.Generator(philox), philox.state
    rows = np.empty((len(seeds), *shape))
    for i, seed in enumerate(seeds):
        start["state"]["key"][0] = seed & (2**64 - 1)
        philox.state = start
        rows[i] = draws.random(shape)
    return torch.from_numpy(rows)
