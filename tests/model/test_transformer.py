import pytest
import torch

from maskgit.model.backbones import num_parameters
from maskgit.model.rows import RowInvariantLinear
from maskgit.model.transformer import Transformer, rotary_angles
from tests.model.conftest import transformer


def test_logits_have_one_column_for_each_code_and_none_for_the_mask():
    logits = transformer()(torch.full((1, 4, 6), 16), torch.tensor([2]))
    assert logits.shape == (1, 4, 6, 16)


def test_no_labels_means_no_label():
    net, codes = transformer(), torch.randint(17, (2, 4, 6))
    assert torch.equal(net(codes), net(codes, torch.tensor([3, 3])))
    assert not torch.allclose(net(codes), net(codes, torch.tensor([0, 1])))


@pytest.mark.parametrize("label_in_input", [True, False])
def test_the_label_matters_by_the_adaptive_norms_alone_too(label_in_input):
    net, codes = transformer(label_in_input=label_in_input), torch.randint(17, (1, 4, 6))
    assert not torch.allclose(net(codes, torch.tensor([0])), net(codes, torch.tensor([1])))


def test_sum_embeds_are_added_to_the_input():
    net, codes = transformer(), torch.randint(17, (1, 4, 6))
    extra = torch.randn(1, 4, 6, 32)
    assert torch.allclose(net(codes, sum_embeds=0 * extra), net(codes), atol=1e-6)
    assert not torch.allclose(net(codes, sum_embeds=extra), net(codes), atol=1e-3)


def test_all_cells_see_each_other():
    net, codes = transformer(), torch.zeros(1, 4, 6, dtype=torch.int64)
    changed = codes.clone()
    changed[0, 3, 5] = 7
    assert (net(codes) != net(changed)).any(-1).all()


def test_positions_matter():
    logits = transformer()(torch.full((1, 4, 6), 16))
    assert len(torch.unique(logits[0].flatten(0, 1).round(decimals=4), dim=0)) == 24


def test_another_grid_is_refused():
    with pytest.raises(ValueError, match="grids of 4x6 cells only, not 6x4"):
        transformer()(torch.zeros(1, 6, 4, dtype=torch.int64))


def test_every_linear_layer_is_row_invariant():
    kinds = {type(layer) for layer in transformer().modules() if isinstance(layer, torch.nn.Linear)}
    assert kinds == {RowInvariantLinear}


def test_canary_a_fresh_net_ignores_its_condition_until_trained():
    """x-transformers starts the adaptive gains at zero; our label embedding into the input carries
    the class at first."""
    torch.manual_seed(0)
    net = Transformer(
        codebook_size=16, grid=(4, 6), num_classes=3, dim=32, depth=1, label_in_input=False
    ).eval()
    codes = torch.randint(17, (1, 4, 6))
    assert torch.equal(net(codes, torch.tensor([0])), net(codes, torch.tensor([1])))


def test_parameters_are_counted():
    assert num_parameters(torch.nn.Linear(3, 2)) == 8


def test_rotary_positions_know_any_size_and_tell_cells_apart():
    net = transformer(positions="rotary")
    for grid in ((4, 6), (2, 3), (9, 5), (1, 1)):
        assert net(torch.zeros(2, *grid, dtype=torch.int64)).shape == (2, *grid, 16)
    codes = torch.zeros(1, 4, 6, dtype=torch.int64)
    codes[0, 1, 2] = 5
    logits = net(codes)[0]
    assert not torch.allclose(logits[1, 1], logits[3, 5], atol=1e-4)
    assert torch.allclose(net(codes.flip(1, 2)).flip(1, 2)[0, 1, 2], logits[1, 2], atol=2.0)


def test_the_codes_of_a_cell_share_its_place_and_differ_by_depth():
    angles = rotary_angles(2, 6, 8, codes_per_cell=2)
    assert torch.equal(angles[0, 0::2], angles[0, 1::2])
    assert torch.equal(angles[:, 0::2], rotary_angles(2, 3, 8))
    net = transformer(positions="rotary", codes_per_cell=2)
    hidden = torch.full((1, 4, 6), 16)
    assert net(torch.full((1, 2, 8), 16)).shape == (1, 2, 8, 16)
    logits = net(hidden)
    assert not torch.allclose(logits[0, 0, 0], logits[0, 0, 1], atol=1e-4)
    torch.nn.init.zeros_(net.depth_embedding)
    logits = net(hidden)
    assert torch.allclose(logits[0, 0, 0], logits[0, 0, 1], atol=1e-5), (
        "on an empty grid, only the depth differs"
    )


def test_rotary_angles_turn_by_row_and_by_column():
    angles = rotary_angles(3, 4, 8)[0].view(3, 4, 8)
    assert angles[2, 0].tolist() == pytest.approx([2, 2, 0.2, 0.2, 0, 0, 0, 0])
    assert angles[0, 3].tolist() == pytest.approx([0, 0, 0, 0, 3, 3, 0.3, 0.3])


def test_attention_by_rotary_positions_depends_on_the_distance_only():
    """What one cell says to another is the same wherever the pair lies in a large grid of one
    code."""
    from x_transformers.x_transformers import apply_rotary_pos_emb

    q, k = torch.randn(2, 1, 1, 30, 8, generator=torch.Generator().manual_seed(0)).unbind()
    q, k = q[..., :1, :].expand(-1, -1, 30, -1), k[..., :1, :].expand(-1, -1, 30, -1)
    angles = rotary_angles(5, 6, 8)
    dots = (apply_rotary_pos_emb(q, angles) @ apply_rotary_pos_emb(k, angles).mT)[0, 0].view(
        5, 6, 5, 6
    )
    assert dots[0, 0, 1, 2].item() == pytest.approx(dots[3, 3, 4, 5].item(), abs=1e-5)


def test_another_grid_is_refused_with_learned_positions():
    with pytest.raises(
        ValueError, match=r"grids of 4x6 cells only, not 4x7: .*model.positions=rotary"
    ):
        transformer()(torch.zeros(1, 4, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match="positions are learned or rotary"):
        transformer(positions="sine")


@pytest.mark.parametrize("heads", [1, 3])
def test_heads_of_any_number_and_width_fit(heads):
    net = transformer(heads=heads, dim_head=8)
    assert net(torch.zeros(2, 4, 6, dtype=torch.int64)).shape == (2, 4, 6, 16)
