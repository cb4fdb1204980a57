import math
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from maskgit.model.masking import count_hidden, hide_exactly, stratified_times
from maskgit.model.objective import NORMALIZATIONS
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.samplers.predictor import places_of
from tests.conftest import OracleNet, all_grids
from tests.model.conftest import draws, theirs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers
from tests.model.conftest import draw_joint, ours


def loss_of(wrapper, embeddings, codes, hidden):
    """The mean cross-entropy of given embeddings: over hidden cells and weighted visible ones, or
    over images."""
    objective, weight = wrapper.objective, wrapper.objective.visible_weight
    counted = torch.ones_like(hidden) if objective.everywhere else hidden
    logits, places = wrapper.to_logits(embeddings[counted]), places_of(counted)
    losses = F.cross_entropy(
        logits, codes[counted], reduction="none", label_smoothing=objective.label_smoothing
    )
    total = objective.summed(losses, hidden, torch.zeros(len(codes)), places)
    return total / (
        len(codes)
        if objective.normalization == "image"
        else hidden.sum() + weight * (~hidden).sum()
    )


def test_our_cross_entropy_equals_theirs():
    """For the same net, mask and settings: theirs without the loss weight, in one image so that the
    masks agree."""
    net = theirs()
    codes = torch.randint(16, (4, 24), generator=draws())
    peer = x_transformers.NonAutoregressiveWrapper(
        net,
        mask_id=16,
        use_simple_mdlm_loss_weight=False,
        no_replace_prob=0.0,
        random_token_prob=0.0,
    )
    torch.manual_seed(3)
    expected = peer(codes).loss
    torch.manual_seed(3)  # what they drew: the times, then the order of the cells
    num_hidden = ((1 - torch.empty(4).uniform_(0, 1)) * 24).clamp(min=1)
    hidden = torch.rand(4, 24).argsort(-1).float() < num_hidden[:, None]
    wrapper = NonAutoregressiveWrapper(net, mask_id=16, label_smoothing=0.0)
    embeddings = net(codes.masked_fill(hidden, 16), return_embeddings=True)
    loss = loss_of(wrapper, embeddings, codes, hidden)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_parts_of_a_step_add_up_to_the_step(normalization):
    """What accumulation and several processes rely on."""
    wrapper = ours(normalization=normalization, condition_dropout=0.0)
    codes, t = torch.randint(16, (8, 4, 6), generator=draws()), stratified_times(8, draws())
    total = wrapper.objective.weight_of(t, 24)

    def loss(part, seed):
        return wrapper(codes[part], t=t[part], normalizer=total, generator=draws(seed)).loss

    parts = [loss(slice(i, i + 1), i) for i in range(8)]
    counts = count_hidden(wrapper.objective.schedule, t, 24)
    masks = torch.cat(
        [hide_exactly(codes[i : i + 1], counts[i : i + 1], draws(i)) for i in range(8)]
    )
    inputs = codes.masked_fill(masks, 16)
    whole = loss_of(wrapper, wrapper.net(inputs, return_embeddings=True), codes, masks)
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)


def test_normalisations_weigh_images_as_they_say():
    wrapper = ours(label_smoothing=0.0)
    embeddings = torch.randn(2, 4, 6, 32, generator=draws())
    codes = torch.randint(16, (2, 4, 6), generator=draws())
    hidden = torch.zeros(2, 4, 6, dtype=torch.bool)
    hidden[0, 0, 0], hidden[1, :2] = True, True
    losses = F.cross_entropy(
        wrapper.net.to_logits(embeddings).movedim(-1, 1), codes, reduction="none"
    )
    one, many = losses[0][hidden[0]], losses[1][hidden[1]]

    def ours_as(normalization):
        wrapper.objective = replace(wrapper.objective, normalization=normalization)
        return loss_of(wrapper, embeddings, codes, hidden).item()

    assert ours_as("cell") == pytest.approx(torch.cat((one, many)).mean().item(), rel=1e-5)
    assert ours_as("image") == pytest.approx((one.mean() + many.mean()).item() / 2, rel=1e-5)


def test_visible_cells_cost_their_weight():
    wrapper = ours(label_smoothing=0.0, visible_weight=0.5)
    embeddings = torch.randn(1, 4, 6, 32, generator=draws())
    codes = torch.zeros(1, 4, 6, dtype=torch.int64)
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    hidden[0, 0] = True
    losses = F.cross_entropy(
        wrapper.net.to_logits(embeddings).movedim(-1, 1), codes, reduction="none"
    )
    expected = (losses[hidden].sum() + 0.5 * losses[~hidden].sum()) / (6 + 0.5 * 18)
    assert loss_of(wrapper, embeddings, codes, hidden).item() == pytest.approx(expected.item(), rel=1e-5)  # fmt: skip


def test_the_true_conditionals_have_the_smallest_loss(oracle):
    """No perturbed oracle does better than the exact one, over all grids of the joint and all ways
    to hide 2 of 4."""
    grids, masks = all_grids(3, 4), all_grids(2, 4).bool()
    masks = masks[masks.sum(1) == 2]
    weights = torch.stack([oracle.joint[tuple(grid)] for grid in grids.tolist()])

    def loss(shift):
        total = 0.0
        for mask in masks:
            rows = torch.stack(
                [oracle.conditional(grid.masked_fill(mask, 3))[mask] for grid in grids]
            )
            log_probs = (rows.log() + shift).log_softmax(-1)
            total += (
                (weights[:, None] * -log_probs.gather(-1, grids[:, mask][..., None])[..., 0])
                .sum()
                .item()
            )
        return total

    exact = loss(torch.zeros(3))
    assert all(exact < loss(0.2 * torch.randn(3, generator=draws(seed))) for seed in range(5))


def test_a_wrong_normalization_is_refused():
    with pytest.raises(ValueError, match="normalization is one of cell, image"):
        ours(normalization="pixel")


@pytest.mark.parametrize("schedule", ["linear", "cosine", "arccos", "square", "sigmoid"])
def test_the_mdlm_loss_of_an_oracle_is_the_entropy(oracle, schedule):
    """Averaged over t, and no perturbed oracle is below it."""
    codes = draw_joint(oracle, 240_000)
    entropy = torch.special.entr(oracle.joint).sum().item() / 4

    def losses(noise):
        net = OracleNet(oracle, noise)
        wrapper = NonAutoregressiveWrapper(
            net, mask_id=3, schedule=schedule, use_simple_mdlm_loss_weight=True
        ).eval()
        parts = [
            wrapper(part, generator=draws(i)).loss.item()
            for i, part in enumerate(codes.split(1000))
        ]
        return torch.tensor(parts, dtype=torch.float64)

    exact = losses(0.0)
    error = exact.std().item() / math.sqrt(len(exact))
    assert abs(exact.mean().item() - entropy) < 4 * error + 2e-3 and error < 0.02
    assert losses(0.7).mean().item() > exact.mean().item() + 4 * error


def test_the_mdlm_loss_is_positive_where_theirs_is_not():
    """Documents the difference: x-transformers 2.31 computes gamma'/(1 - gamma), which is
    negative."""
    codes = torch.randint(16, (64, 24), generator=draws())
    torch.manual_seed(0)
    peer = x_transformers.NonAutoregressiveWrapper(theirs(), mask_id=16)
    assert peer(codes).loss.item() < -5
    wrapper = NonAutoregressiveWrapper(
        theirs(), mask_id=16, schedule="linear", use_simple_mdlm_loss_weight=True
    )
    loss = wrapper(codes, generator=draws()).loss.item()
    assert 0.5 * math.log(16) < loss < 2 * math.log(16)


def test_parts_of_an_mdlm_step_add_up_to_the_step():
    wrapper = ours(use_simple_mdlm_loss_weight=True, condition_dropout=0.0)
    codes, t = torch.randint(16, (8, 4, 6), generator=draws()), stratified_times(8, draws())
    total = wrapper.objective.weight_of(t, 24)
    assert total == 8 * 24
    parts = [wrapper(codes[i : i + 1], t=t[i : i + 1], generator=draws(i)).loss for i in range(8)]
    scaled = [
        wrapper(codes[i : i + 1], t=t[i : i + 1], normalizer=total, generator=draws(i)).loss
        for i in range(8)
    ]
    assert sum(scaled).item() == pytest.approx(sum(parts).item() / 8, rel=1e-5)
