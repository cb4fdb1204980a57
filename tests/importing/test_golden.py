"""The golden files of other projects are whole, and few bytes."""

import hashlib

import pytest
import torch

from tests.importing.golden import PACKED, SYSTEMS, checkpoint, golden, inputs, outputs


def test_there_are_seventeen_and_they_are_small():
    assert len(SYSTEMS) == 17
    assert sum(path.stat().st_size for path in PACKED.rglob("*")) < 12e6


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_checkpoint_is_byte_for_byte_as_its_project_wrote_it(system):
    known = dict(
        reversed(line.split()) for line in (PACKED / "SHA256SUMS").read_text().splitlines()
    )
    path = checkpoint(system)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == known[f"{system}/{path.name}"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_has_sizes_inputs_and_outputs(system):
    assert list(golden(system).glob("*.json"))
    given, made = inputs(system), outputs(system)
    assert "codes" in given or "codes_full" in given
    assert "decoded" in made or "logits_full" in made
    assert all(torch.isfinite(value).all() for value in (given | made).values())
