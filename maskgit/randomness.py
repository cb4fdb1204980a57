"""Counter-based randomness: a draw is a function of where it is used; none is ever saved.

order = f(seed, epoch) · augmentation = f(seed, epoch, index) · the model's draws = f(seed, step,
rank) · sampling noise = f(image seed, round). A resumed run therefore draws what an uninterrupted
one would have. What a draw is for is hashed with its place: two purposes never share a stream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def mixed_seed(purpose: str, *parts: int) -> int:
    """One 63-bit seed for a purpose ("mask", "dropout", ...) and integers that say where.

    Another purpose, other parts, or more of them give an unrelated seed.
    """
    text = json.dumps([purpose, *parts])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(purpose: str, *parts: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator whose state is a function of a purpose and `parts`."""
    return torch.Generator(device).manual_seed(mixed_seed(purpose, *parts))


def permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: (num_items,) int64."""
    return np.random.default_rng(mixed_seed("order", seed, epoch)).permutation(num_items)


def choices(num_choices: int, seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A uniform choice in [0, num_choices) for each (epoch, index): int64, by splitmix64."""
    mixed = np.uint64(mixed_seed("view", seed))
    with np.errstate(over="ignore"):
        z = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z ^= epochs.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + mixed
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
