import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgit.schedules import SCHEDULES, get_schedule
from maskgit.transformer import Transformer
from maskgit.wrapper import NORMALIZATIONS, NonAutoregressiveWrapper, corrupt, count_hidden, stratified_times
from tests.conftest import OracleNet, all_grids

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers


def theirs(num_codes=16, max_seq_len=24, **options):
    torch.manual_seed(0)
    layers = x_transformers.Encoder(dim=32, depth=2, heads=2, attn_dim_head=16)
    return x_transformers.TransformerWrapper(
        num_tokens=num_codes + 1, max_seq_len=max_seq_len, attn_layers=layers, **{"logits_dim": num_codes, **options}
    )


def ours(grid=(4, 6), num_codes=16, **options):
    torch.manual_seed(0)
    net = Transformer(codebook_size=num_codes, grid=grid, num_classes=3, dim=32, depth=2, heads=2, dim_head=16)
    return NonAutoregressiveWrapper(net, mask_id=num_codes, **options)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_times_are_spread_evenly():
    t = stratified_times(8, draws())
    assert torch.allclose(t.diff(), torch.full((7,), 1 / 8)) and t.min() >= 0 and t.max() < 1
    many = torch.stack([stratified_times(4, draws(seed)) for seed in range(2000)])
    assert abs(many.mean().item() - 0.5) < 0.01


@given(
    st.integers(1, 12), st.integers(1, 7), st.sampled_from(sorted(SCHEDULES)), st.integers(2, 300), st.integers(0, 99)
)
@settings(max_examples=150, deadline=None)
def test_exactly_the_wanted_cells_are_hidden(height, width, schedule, num_codes, seed):
    codes = torch.randint(num_codes, (3, height, width), generator=draws(seed))
    num_hidden = count_hidden(get_schedule(schedule), stratified_times(3, draws(seed)), height * width)
    inputs, hidden = corrupt(codes, num_hidden, mask_id=num_codes, num_codes=num_codes, generator=draws(seed))
    assert torch.equal(hidden.flatten(1).sum(1), num_hidden) and (num_hidden >= 1).all()
    assert torch.equal(inputs == num_codes, hidden)
    assert torch.equal(inputs[~hidden], codes[~hidden])


def test_every_cell_is_as_likely_to_be_hidden():
    codes = torch.zeros(20_000, 2, 3, dtype=torch.int64)
    hidden = corrupt(codes, torch.full((20_000,), 2), mask_id=9, num_codes=9, generator=draws()).hidden
    assert torch.allclose(hidden.double().mean(0), torch.full((2, 3), 1 / 3, dtype=torch.float64), atol=0.015)


def test_no_replace_and_random_codes_have_their_shares_and_never_insert_the_mask():
    codes = torch.zeros(500, 10, 10, dtype=torch.int64)
    options = {"mask_id": 50, "num_codes": 50, "no_replace_prob": 0.2, "random_token_prob": 0.25}
    inputs, hidden = corrupt(codes, torch.full((500,), 80), **options, generator=draws())
    seen = inputs[hidden]
    assert (seen == 50).double().mean().item() == pytest.approx(0.8 * 0.75, abs=0.01)
    assert ((seen > 0) & (seen < 50)).double().mean().item() == pytest.approx(0.8 * 0.25 * 49 / 50, abs=0.01)
    assert torch.equal(inputs[~hidden], codes[~hidden])


def test_the_loss_is_positive_and_starts_near_uniform():
    wrapper = ours(num_codes=64, label_smoothing=0.0)
    codes = torch.randint(64, (32, 4, 6), generator=draws())
    loss = wrapper(codes, labels=torch.zeros(32, dtype=torch.int64), generator=draws()).loss
    assert 0.8 * math.log(64) < loss.item() < 1.5 * math.log(64)


def test_our_cross_entropy_equals_theirs():
    """For the same net, mask and settings: theirs without the loss weight, in one image so that the masks agree."""
    net = theirs()
    codes = torch.randint(16, (4, 24), generator=draws())
    peer = x_transformers.NonAutoregressiveWrapper(
        net, mask_id=16, use_simple_mdlm_loss_weight=False, no_replace_prob=0.0, random_token_prob=0.0
    )
    torch.manual_seed(3)
    expected = peer(codes).loss
    torch.manual_seed(3)  # what they drew: the times, then the order of the cells
    num_hidden = ((1 - torch.empty(4).uniform_(0, 1)) * 24).clamp(min=1)
    hidden = torch.rand(4, 24).argsort(-1).float() < num_hidden[:, None]
    wrapper = NonAutoregressiveWrapper(net, mask_id=16, label_smoothing=0.0)
    embeddings = net(codes.masked_fill(hidden, 16), return_embeddings=True)
    loss = wrapper._cross_entropy(embeddings, codes, hidden)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_user_of_theirs_changes_one_import():
    wrapper = NonAutoregressiveWrapper(
        theirs(), mask_id=16, steps=4, schedule="linear", no_replace_prob=0.15, random_token_prob=0.1
    )
    losses = wrapper(torch.randint(16, (4, 24), generator=draws()))
    losses.loss.backward()
    assert losses.loss > 0 and losses.critic_loss is None
    assert wrapper.generate().shape == (24,)
    assert wrapper.generate(batch_size=3).shape == (3, 24)


def test_the_mask_is_never_generated_even_by_a_head_that_could():
    net = theirs(num_codes=3, logits_dim=4)
    with torch.no_grad():
        net.to_logits.weight[3] += 10 * net.to_logits.weight.abs().max()
    wrapper = NonAutoregressiveWrapper(net, mask_id=3, steps=5)
    assert wrapper.generate(batch_size=50).max() < 3


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_parts_of_a_step_add_up_to_the_step(normalization):
    """What accumulation and several processes rely on."""
    wrapper = ours(normalization=normalization, label_dropout=0.0)
    codes, t = torch.randint(16, (8, 4, 6), generator=draws()), stratified_times(8, draws())
    total = wrapper.weight_of(t, 24)

    def loss(part, seed):
        return wrapper(codes[part], t=t[part], normalizer=total, generator=draws(seed)).loss

    parts = [loss(slice(i, i + 1), i) for i in range(8)]
    hidden = [corrupt(codes[i : i + 1], count_hidden(wrapper.schedule, t[i : i + 1], 24), mask_id=16, num_codes=16, generator=draws(i)) for i in range(8)]  # fmt: skip
    inputs, masks = (torch.cat([h[k] for h in hidden]) for k in (0, 1))
    whole = wrapper._cross_entropy(wrapper.net(inputs, return_embeddings=True), codes, masks)
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)


def test_normalisations_weigh_images_as_they_say():
    wrapper = ours(label_smoothing=0.0)
    embeddings = torch.randn(2, 4, 6, 32, generator=draws())
    codes = torch.randint(16, (2, 4, 6), generator=draws())
    hidden = torch.zeros(2, 4, 6, dtype=torch.bool)
    hidden[0, 0, 0], hidden[1, :2] = True, True
    losses = F.cross_entropy(wrapper.net.to_logits(embeddings).movedim(-1, 1), codes, reduction="none")
    one, many = losses[0][hidden[0]], losses[1][hidden[1]]

    def ours_as(normalization):
        wrapper.normalization = normalization
        return wrapper._cross_entropy(embeddings, codes, hidden).item()

    assert ours_as("cell") == pytest.approx(torch.cat((one, many)).mean().item(), rel=1e-5)
    assert ours_as("image") == pytest.approx((one.mean() + many.mean()).item() / 2, rel=1e-5)


def test_visible_cells_cost_their_weight():
    wrapper = ours(label_smoothing=0.0, visible_weight=0.5)
    embeddings, codes = torch.randn(1, 4, 6, 32, generator=draws()), torch.zeros(1, 4, 6, dtype=torch.int64)
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    hidden[0, 0] = True
    losses = F.cross_entropy(wrapper.net.to_logits(embeddings).movedim(-1, 1), codes, reduction="none")
    expected = (losses[hidden].sum() + 0.5 * losses[~hidden].sum()) / (6 + 0.5 * 18)
    assert wrapper._cross_entropy(embeddings, codes, hidden).item() == pytest.approx(expected.item(), rel=1e-5)  # fmt: skip


def test_labels_are_dropped_in_training_only_one_coin_an_image():
    wrapper = ours(label_dropout=0.3)
    labels = torch.ones(20_000, dtype=torch.int64)
    dropped = wrapper.drop_labels(labels, draws())
    assert (dropped == 3).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(wrapper.eval().drop_labels(labels, draws()), labels)


def test_every_parameter_gets_a_gradient():
    wrapper = ours(no_replace_prob=0.1, random_token_prob=0.1)
    wrapper(
        torch.randint(16, (8, 4, 6)), labels=torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), generator=draws()
    ).loss.backward()
    assert [name for name, p in wrapper.named_parameters() if p.grad is None] == []


def test_the_true_conditionals_have_the_smallest_loss(oracle):
    """No perturbed oracle does better than the exact one, over all grids of the joint and all ways to hide 2 of 4."""
    grids, masks = all_grids(3, 4), all_grids(2, 4).bool()
    masks = masks[masks.sum(1) == 2]
    weights = torch.stack([oracle.joint[tuple(grid)] for grid in grids.tolist()])

    def loss(shift):
        total = 0.0
        for mask in masks:
            rows = torch.stack([oracle.conditional(grid.masked_fill(mask, 3))[mask] for grid in grids])
            log_probs = (rows.log() + shift).log_softmax(-1)
            total += (weights[:, None] * -log_probs.gather(-1, grids[:, mask][..., None])[..., 0]).sum().item()
        return total

    exact = loss(torch.zeros(3))
    assert all(exact < loss(0.2 * torch.randn(3, generator=draws(seed))) for seed in range(5))


def test_a_wrong_normalization_is_refused():
    with pytest.raises(ValueError, match="normalization is one of cell, image"):
        ours(normalization="pixel")


def draw_joint(oracle, count, seed=0):
    """Grids drawn from the oracle's joint: (count, 2, 2)."""
    flat = torch.multinomial(oracle.joint.flatten(), count, replacement=True, generator=draws(seed))
    return all_grids(3, 4)[flat].view(count, 2, 2)


def test_bits_of_an_oracle_are_the_entropy(oracle):
    """The bound is tight for a net that knows the conditionals, and no perturbed net gets below it."""
    codes = draw_joint(oracle, 40_000)
    entropy = torch.special.entr(oracle.joint).sum().item() / math.log(2) / 4
    for noise in (0.0, 0.3, 1.0):
        wrapper = NonAutoregressiveWrapper(OracleNet(oracle, noise), mask_id=3).eval()
        found = wrapper.bits(codes, generator=draws(1))
        error = found.std().item() / math.sqrt(len(found))
        if noise == 0:
            assert abs(found.mean().item() - entropy) < 4 * error and error < 0.01
        else:
            assert found.mean().item() > entropy + 4 * error


def test_bits_never_count_the_mask_token_and_fit_any_net():
    wrapper = NonAutoregressiveWrapper(theirs(logits_dim=17), mask_id=16).eval()
    codes = torch.randint(16, (5, 24), generator=draws())
    found = wrapper.bits(codes, generator=draws())
    assert found.shape == (5,) and found.dtype == torch.float64
    with torch.no_grad():
        wrapper.net.to_logits.bias = torch.nn.Parameter(torch.zeros(17).index_fill(0, torch.tensor(16), 50.0))
    assert torch.allclose(found, wrapper.bits(codes, generator=draws()), atol=1e-4)
    same = ours().eval()
    labels = torch.tensor([0, 1, 2])
    few = torch.randint(16, (3, 4, 6), generator=draws())
    assert same.bits(few, labels=labels, generator=draws()).isfinite().all()
