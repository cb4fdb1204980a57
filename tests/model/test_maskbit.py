"""The input of MaskBit's nets; their answers: tests/importing."""

import pytest
import torch

from maskgit.model.published.maskbit import Bits, MaskBit, Tables

SHAPE = {"codebook_size": 4, "grid": (2, 6), "num_classes": 3, "codes_per_cell": 2}
SMALL = {"dim": 16, "depth": 2, "heads": 2, "hidden": 24}


def test_codes_are_their_bits_the_low_ones_first_and_nothing_where_hidden():
    bits = Bits(4, 2, 8)
    found = bits.vectors(torch.tensor([[1, 2], [4, 3], [0, 4]]))
    assert found.tolist() == [[1, -1, -1, 1], [0, 0, 1, 1], [-1, -1, 0, 0]]
    with pytest.raises(ValueError, match=r"2, 4, 8, \.\.\. codes, not 6: set embedding=tables"):
        Bits(6, 2, 8)


def test_tables_add_a_row_for_each_code_of_a_cell():
    torch.manual_seed(0)
    tables = Tables(6, 2, 8)
    first, second = (table.weight for table in tables.tables)
    assert torch.equal(tables(torch.tensor([[5, 6]])), (first[5] + second[6])[None])


@torch.no_grad()
@pytest.mark.parametrize("embedding", ["bits", "tables"])
@pytest.mark.parametrize("prenorm", [False, True])
def test_codes_of_a_cell_are_hidden_and_answered_each_by_itself(embedding, prenorm):
    torch.manual_seed(0)
    net = MaskBit(**SHAPE, **SMALL, embedding=embedding, prenorm=prenorm).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    codes, labels = torch.randint(4, (2, 2, 6)), torch.tensor([1, 3])
    logits = net(codes, labels)
    assert logits.shape == (2, 2, 6, 4)
    half = codes.clone()
    half[:, 0, 1] = 4  # the high bits of the first cell
    other = net(half, labels)
    assert not torch.allclose(other[:, 0, 0], logits[:, 0, 0], atol=1e-3)
    cells = torch.zeros_like(codes, dtype=torch.bool)
    cells[:, 0, 1] = cells[:, 1, 4] = True
    at = net.to_logits(net.embed_at(half, cells, labels))
    assert torch.allclose(at, other[cells], atol=1e-5)
