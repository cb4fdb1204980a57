"""What the generators with torch's attention have in common."""

import pytest
import torch

from maskgit.importing.blocks import BLOCKS, codes_and_classes, positions_of
from maskgit.importing.system import Sizes, renamed


@pytest.mark.parametrize("inner", ["", "fn."])
def test_names_of_both_projects_become_ours(inner):
    their = [
        f"0.{inner}mha.in_proj_weight", f"0.{inner}mha.out_proj.bias", "0.norm.weight",
        f"1.{inner}net.0.weight", f"1.{inner}net.{3 if inner else 2}.bias", "1.norm.bias",
    ]  # fmt: skip
    ours = ["to_qkv.weight", "to_out.bias", "norm1.weight", "w1.weight", "w2.bias", "norm2.bias"]
    found = renamed({f"transformer.layers.12.{name}": torch.zeros(1) for name in their}, BLOCKS)
    assert [*found] == [f"blocks.12.{name}" for name in ours]


def test_a_table_is_told_apart_by_its_published_size_or_by_what_is_given():
    assert codes_and_classes(Sizes({}), 2026, 2, "nclass") == (1024, 1000)
    assert codes_and_classes(Sizes({"nclass": 10}), 76, 2, "nclass") == (64, 10)
    assert codes_and_classes(Sizes({"codebook_size": 64}), 76, 2, "nclass") == (64, 10)
    for sizes in ({"codebook_size": 74}, {"codebook_size": 64, "nclass": 9}, {"nclass": 80}):
        with pytest.raises(ValueError, match="see codebook_size and nclass in --sizes"):
            codes_and_classes(Sizes(sizes), 76, 2, "nclass")
    with pytest.raises(ValueError, match="do not say codebook_size"):
        codes_and_classes(Sizes({}), 76, 2, "nclass")


def test_positions_are_those_of_one_row():
    assert positions_of({"pos_emb": torch.zeros(1, 17, 8)}, 8) == 17
    for shape in [(2, 17, 8), (1, 17, 9), (17, 8)]:
        with pytest.raises(ValueError, match="its pos_emb is"):
            positions_of({"pos_emb": torch.zeros(shape)}, 8)
