import torch

from maskgit.model.conditioned import Conditioned
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.samplers.guidance import Guided
from tests.model.conftest import transformer


def test_the_head_on_chosen_cells_equals_the_whole():
    net, codes, labels = transformer(), torch.randint(17, (3, 4, 6)), torch.tensor([0, 1, 3])
    cells = torch.rand(3, 4, 6) < 0.4
    model = Conditioned(NonAutoregressiveWrapper(net, mask_id=16), 3, {})
    assert torch.allclose(
        model.logits_at(codes, labels, cells), net(codes, labels)[cells], atol=1e-5
    )


def test_a_linear_head_runs_on_guided_embeddings_and_another_one_is_guided_after_it():
    net, codes, labels = transformer(), torch.full((3, 4, 6), 16), torch.tensor([0, 1, 0])
    cells, none = torch.rand(3, 4, 6) < 0.4, torch.full((3,), 3)
    c, u = (net(codes, side)[cells] for side in (labels, none))
    rows = []
    net.to_logits.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    for is_first in (True, False):
        model = Conditioned(NonAutoregressiveWrapper(net, mask_id=16), 3, {})
        model.passes.passes = int(not is_first)  # in the first round equal images run once
        guided = Guided(model, labels, scale=2.5)
        assert torch.allclose(guided.logits(codes, cells, 0.5), u + 2.5 * (c - u), atol=1e-4)
    assert rows == [int(cells.sum())] * 2
    net.net.to_logits = torch.nn.Sequential(net.net.to_logits, torch.nn.Tanh())
    model = Conditioned(NonAutoregressiveWrapper(net, mask_id=16), 3, {})
    expected = u.tanh() + 2.5 * (c.tanh() - u.tanh())
    assert torch.allclose(
        Guided(model, labels, scale=2.5).logits(codes, cells, 0.5), expected, atol=1e-4
    )


def test_in_the_first_round_the_head_runs_on_no_more_rows_than_are_asked_for():
    """Three of four images differ, and two cells of each are asked for: not on three whole grids."""
    net, labels = transformer(), torch.tensor([0, 1, 2, 1])
    codes, cells = torch.full((4, 4, 6), 16), torch.zeros(4, 4, 6, dtype=torch.bool)
    cells[:, 0, :2] = True
    wanted, rows = net(codes, labels)[cells], []
    net.to_logits.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    model = Conditioned(NonAutoregressiveWrapper(net, mask_id=16), 4, {})
    assert torch.allclose(model.logits_at(codes, labels, cells), wanted, atol=1e-5)
    assert rows == [8]
