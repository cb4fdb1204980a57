"""What several tests of this wing share."""

import pytest
import torch
from scipy import stats

from maskgit.samplers import SAMPLERS, engine, ordered
from tests.conftest import all_grids

GRID, NUM_CODES = (4, 6), 16


VARIANTS = {
    "remask, cap": {"kind": "cap", "eta": 0.3},
    "remask, conf": {"kind": "conf"},
    "remask, loop": {"refine": (0.3, 0.8), "eta": 0.2},
}


def run(name, predictor, codes, seeds, **options):
    sampler = SAMPLERS[name.partition(",")[0]]
    return list(sampler(predictor, codes, seeds, **VARIANTS.get(name, {}), **options))


def empty(batch, grid=GRID, mask_id=NUM_CODES):
    return torch.full((batch, *grid), mask_id)


@pytest.fixture
def quick_noise(monkeypatch):
    """Noise of one generator instead of one for each image, which takes most of the time of many
    small grids."""
    draws = torch.Generator().manual_seed(0)

    def uniforms(seeds, round_, shape):
        return torch.rand(len(seeds), *shape, generator=draws, dtype=torch.float64)

    for place in (engine, ordered):
        monkeypatch.setattr(place, "uniforms", uniforms)


def counts_of(oracle, codes):
    """How often each of the 81 grids was drawn, and how often it should have been."""
    expected = len(codes) * torch.tensor(
        [oracle.joint[tuple(grid)] for grid in all_grids(3, 4).tolist()]
    )
    return torch.bincount(
        (codes.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81
    ), expected


def is_the_joint(oracle, codes):
    """Chi-square of the grids at p = 0.001, all that are expected less than five times being one of
    them."""
    counts, expected = counts_of(oracle, codes)
    rare = expected < 5
    counts = torch.cat((counts[~rare], counts[rare].sum()[None]))
    expected = torch.cat((expected[~rare], expected[rare].sum()[None]))
    return ((counts - expected) ** 2 / expected).sum() < stats.chi2.ppf(0.999, len(counts) - 1)
