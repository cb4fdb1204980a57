"""data.balance: how often each class comes in an epoch, whatever number of images it has.

As all of the order it is a function of the seed and the epoch: the same in every process, and
nothing of it is saved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskgit.config.sections import ClassifierConfig, Config, TokenizerConfig
from maskgit.data.datasets import Dataset
from maskgit.randomness import mixed_seed, permutation

BALANCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sqrt": np.sqrt,
    "uniform": np.ones_like,
}
"""name -> what classes weigh, by how many images they have."""


def quotas(counts: np.ndarray, balance: str) -> np.ndarray:
    """How many images of each class an epoch has: (classes,) int64, as many as there are in all.

    counts: those that there are, one or more. By largest remainders; of each class at least one.
    """
    weights = BALANCES[balance](counts.astype(np.float64))
    exact = weights / weights.sum() * counts.sum()
    found = np.floor(exact).astype(np.int64)
    left = int(counts.sum() - found.sum())
    found[np.argsort(found - exact, kind="stable")[:left]] += 1
    return found


class Balanced:
    """The epochs of a balanced order.

    Each class is an endless sequence of shuffled passes over its images, of which an epoch takes
    the next ones: none of them comes again before all others of its class have come.
    """

    def __init__(self, labels: np.ndarray, balance: str, seed: int) -> None:
        """labels: (n,) int64; ValueError for a source's own attributes."""
        if labels.ndim > 1:
            raise ValueError("balance is of classes: this source has attributes, not a label each")
        self.seed = seed
        self.classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
        self.quotas = quotas(counts, balance)

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """-> the index of each image (n,), and which pass over its class it is in: no pair comes
        twice."""
        found = [self._of_class(i, number) for i in range(len(self.classes))]
        indices, passes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = permutation(len(indices), self.seed, number)
        return indices[order], passes[order]

    def _of_class(self, place: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        members, quota = self.members[place], int(self.quotas[place])
        passes, offsets = np.divmod(np.arange(epoch * quota, (epoch + 1) * quota), len(members))
        orders = [self._pass(place, int(number)) for number in np.unique(passes)]
        return np.stack(orders)[passes - passes[0], offsets], passes

    def _pass(self, place: int, number: int) -> np.ndarray:
        """The images of a class in the order of one pass."""
        seed = mixed_seed("class order", self.seed, int(self.classes[place]), number)
        return np.random.default_rng(seed).permutation(self.members[place])


def balanced(config: Config, dataset: Dataset) -> Balanced | None:
    """The order that a config asks for; none for each image once an epoch."""
    if isinstance(config, TokenizerConfig | ClassifierConfig):
        balance = config.data.balance
    else:
        balance = config.balance
    if balance == "none":
        return None
    return Balanced(dataset.class_labels, balance, config.seed)
