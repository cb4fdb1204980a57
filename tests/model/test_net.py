"""What published nets share, on the smallest of them."""

import pytest
import torch

from maskgit.model.published.halton import Halton


@pytest.fixture
def net():
    torch.manual_seed(0)
    sizes = {"dim": 16, "depth": 3, "heads": 2, "hidden": 24, "registers": 1}
    net = Halton(codebook_size=9, grid=(3, 4), num_classes=4, **sizes).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return net


@torch.no_grad()
def test_cells_that_run_again_meet_the_keys_of_the_others(net):
    """A pass over some cells is exact where nothing else has changed, and only there."""
    codes, labels = torch.randint(9, (2, 3, 4)), torch.tensor([1, 2])
    every = torch.ones_like(codes, dtype=torch.bool)
    passes = net.sampling_passes(3)
    passes.embed_at(codes, labels, every)
    cells = torch.zeros_like(every)
    cells[:, 1, 2] = True
    again = passes.embed_at(codes, labels, cells)
    assert torch.allclose(again, net(codes, labels, return_embeddings=True)[cells], atol=1e-5)
    changed = codes.clone()
    changed[:, 0, 0] = (changed[:, 0, 0] + 1) % 9
    found = passes.embed_at(changed, labels, every)
    assert torch.allclose(found, net(changed, labels, return_embeddings=True)[every], atol=1e-5)


@torch.no_grad()
def test_an_input_may_be_added_and_no_label_is_the_null(net):
    codes = torch.randint(10, (2, 3, 4))
    zero = torch.zeros(2, 3, 4, 16)
    assert torch.equal(net(codes), net(codes, torch.tensor([4, 4])))
    assert torch.equal(net(codes, sum_embeds=zero), net(codes))
    assert not torch.equal(net(codes, sum_embeds=zero + 1), net(codes))


def test_it_learns(net):
    codes, labels = torch.randint(9, (4, 3, 4)), torch.tensor([0, 1, 2, 4])
    optimizer = torch.optim.Adam(net.train().parameters(), 1e-2)
    losses = []
    for _ in range(30):
        logits = net(torch.full_like(codes, 9), labels)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 2), codes.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_grids_of_another_size_are_refused(net):
    with pytest.raises(ValueError, match="3x4 cells only, not 4x4: it has learned positions"):
        net(torch.zeros(1, 4, 4, dtype=torch.int64))
