"""The nets of MaskBit."""

import pytest
import torch

from maskgit.model.published.maskbit import Bits, MaskBit, Tables

SHAPE = {"codebook_size": 8, "grid": (2, 6), "num_classes": 3, "codes_per_cell": 2}
SMALL = {"dim": 16, "depth": 1, "heads": 2, "hidden": 32}


def test_a_code_is_its_bits_from_the_least_and_a_hidden_one_is_zeros():
    bits = Bits(8, 2, 4)
    found = bits.vectors(torch.tensor([[6, 1], [8, 0], [8, 8]]))
    assert found.tolist() == [[-1, 1, 1, 1, -1, -1], [0, 0, 0, -1, -1, -1], [0] * 6]


def test_tables_are_summed():
    tables = Tables(8, 2, 4)
    first, second = (table.weight for table in tables.tables)
    assert torch.equal(tables(torch.tensor([[3, 8]])), (first[3] + second[8])[None])


def test_a_half_hidden_cell_counts_and_each_code_is_asked_for_by_itself():
    torch.manual_seed(0)
    net = MaskBit(**SHAPE, **SMALL).eval()
    codes = torch.full((1, 2, 6), 8)
    half = codes.clone()
    half[0, 0, 1] = 5
    found = net(codes), net(half)
    assert found[0].shape == (1, 2, 6, 8) and not torch.allclose(*found, atol=1e-4)
    with torch.no_grad():
        net.to_logits.bias[1, 0, 3] += 1
    shift = net(codes) - found[0]
    assert torch.allclose(shift[:, :, 1::2, 3], torch.ones(1, 2, 3), atol=1e-5)
    assert shift[:, :, ::2].abs().max() < 1e-5


def test_each_cell_has_a_bias_of_its_own_with_tables_only():
    shapes = [
        MaskBit(**SHAPE, **SMALL, embedding=name).to_logits.bias.shape
        for name in ("bits", "tables")
    ]
    assert shapes == [(2, 1, 8), (2, 6, 8)]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="2, 4, 8, ... codes, not 12: set embedding=tables"):
        MaskBit(**{**SHAPE, "codebook_size": 12}, **SMALL)
    MaskBit(**{**SHAPE, "codebook_size": 12}, **SMALL, embedding="tables")
    with pytest.raises(ValueError, match="unknown embedding 'table', did you mean 'tables'"):
        MaskBit(**SHAPE, **SMALL, embedding="table")
