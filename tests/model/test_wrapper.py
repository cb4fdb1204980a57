import math
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from maskgit.model.critic import compose, critic_targets, draw_at
from maskgit.model.masking import count_hidden, hide_exactly, stratified_times
from maskgit.model.objective import NORMALIZATIONS
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from tests.conftest import OracleNet, all_grids, free_port, repo
from tests.model.conftest import Recorder, draws, theirs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers


def ours(grid=(4, 6), num_codes=16, **options):
    torch.manual_seed(0)
    net = Transformer(
        codebook_size=num_codes, grid=grid, num_classes=3, dim=32, depth=2, heads=2, dim_head=16
    )
    return NonAutoregressiveWrapper(net, mask_id=num_codes, **options)


def loss_of(wrapper, embeddings, codes, hidden):
    """The mean cross-entropy of given embeddings: over hidden cells and weighted visible ones, or
    over images."""
    objective, weight = wrapper.objective, wrapper.objective.visible_weight
    total = objective.loss(
        wrapper.to_logits(embeddings[objective.counted(hidden)]),
        codes,
        hidden,
        torch.zeros(len(codes)),
    )
    return total / (
        len(codes)
        if objective.normalization == "image"
        else hidden.sum() + weight * (~hidden).sum()
    )


def test_the_loss_is_positive_and_starts_near_uniform():
    wrapper = ours(num_codes=64, label_smoothing=0.0)
    codes = torch.randint(64, (32, 4, 6), generator=draws())
    loss = wrapper(codes, condition=torch.zeros(32, dtype=torch.int64), generator=draws()).loss
    assert 0.8 * math.log(64) < loss.item() < 1.5 * math.log(64)


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


def test_a_user_of_theirs_changes_one_import():
    wrapper = NonAutoregressiveWrapper(
        theirs(),
        mask_id=16,
        steps=4,
        schedule="linear",
        no_replace_prob=0.15,
        random_token_prob=0.1,
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


def test_parts_of_a_step_add_up_for_critics_too():
    """The critic's loss is a mean over all cells: of equal parts it is the mean."""
    wrapper = ours(self_token_critic=True, condition_dropout=0.0)
    codes, t = torch.randint(16, (8, 4, 6), generator=draws()), stratified_times(8, draws())
    parts = [
        wrapper(codes[i : i + 2], t=t[i : i + 2], generator=draws(i), num_parts=4).critic_loss
        for i in (0, 2, 4)
    ]
    whole = [
        wrapper(codes[i : i + 2], t=t[i : i + 2], generator=draws(i)).critic_loss for i in (0, 2, 4)
    ]
    assert torch.allclose(torch.stack(parts) * 4, torch.stack(whole))


def test_in_eval_mode_every_image_sees_its_first_pass():
    """The loss and the bits of a self-conditioned net are those of two passes, as in sampling."""
    wrapper = ours(self_cond=True, self_cond_train_prob=0.0).eval()
    codes = torch.randint(16, (3, 4, 6), generator=draws())
    first = wrapper.embed(codes)
    assert torch.equal(wrapper.self_condition(codes, None, {}), first)
    bits = wrapper.bits(codes, generator=draws())
    torch.nn.init.normal_(wrapper.to_self_cond.weight)
    assert not torch.allclose(bits, wrapper.bits(codes, generator=draws()))


def test_self_conditioning_starts_as_none():
    """Its map starts at zero, and learns from the first step on."""
    with_it, without = ours(self_cond=True), ours()
    with_it.load_state_dict(without.state_dict(), strict=False)
    codes = torch.randint(16, (3, 4, 6), generator=draws())
    loss = with_it(codes, generator=draws()).loss
    assert torch.equal(with_it.embed(codes), without.embed(codes))
    loss.backward()
    assert with_it.to_self_cond.weight.grad.abs().max() > 0


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
    embeddings, codes = (
        torch.randn(1, 4, 6, 32, generator=draws()),
        torch.zeros(1, 4, 6, dtype=torch.int64),
    )
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    hidden[0, 0] = True
    losses = F.cross_entropy(
        wrapper.net.to_logits(embeddings).movedim(-1, 1), codes, reduction="none"
    )
    expected = (losses[hidden].sum() + 0.5 * losses[~hidden].sum()) / (6 + 0.5 * 18)
    assert loss_of(wrapper, embeddings, codes, hidden).item() == pytest.approx(expected.item(), rel=1e-5)  # fmt: skip


def test_labels_are_dropped_in_training_only_one_coin_an_image():
    wrapper = ours(condition_dropout=0.3)
    labels = torch.ones(20_000, dtype=torch.int64)
    dropped = wrapper.drop(labels, draws())
    assert (dropped == 3).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(wrapper.eval().drop(labels, draws()), labels)


def test_every_parameter_gets_a_gradient():
    wrapper = ours(no_replace_prob=0.1, random_token_prob=0.1)
    wrapper(
        torch.randint(16, (8, 4, 6)),
        condition=torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]),
        generator=draws(),
    ).loss.backward()
    assert [name for name, p in wrapper.named_parameters() if p.grad is None] == []


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


def draw_joint(oracle, count, seed=0):
    """Grids drawn from the oracle's joint: (count, 2, 2)."""
    flat = torch.multinomial(oracle.joint.flatten(), count, replacement=True, generator=draws(seed))
    return all_grids(3, 4)[flat].view(count, 2, 2)


def test_bits_of_an_oracle_are_the_entropy(oracle):
    """The bound is tight for a net that knows the conditionals, and no perturbed net gets below
    it."""
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
        wrapper.net.to_logits.bias = torch.nn.Parameter(
            torch.zeros(17).index_fill(0, torch.tensor(16), 50.0)
        )
    assert torch.allclose(found, wrapper.bits(codes, generator=draws()), atol=1e-4)
    same = ours().eval()
    labels = torch.tensor([0, 1, 2])
    few = torch.randint(16, (3, 4, 6), generator=draws())
    assert same.bits(few, condition=labels, generator=draws()).isfinite().all()


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


def critical(kind, **options):
    torch.manual_seed(0)
    if kind == "self":
        return ours(self_token_critic=True, **options)
    net = Transformer(
        codebook_size=16,
        grid=(4, 6),
        num_classes=3,
        dim=32,
        depth=1,
        heads=2,
        dim_head=16,
        num_outputs=1,
    )
    return ours(token_critic=net, **options)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


@pytest.mark.parametrize("kind", ["self", "second"])
@pytest.mark.parametrize("self_cond", [False, True])
def test_every_parameter_gets_a_gradient_on_every_step(kind, self_cond):
    """So that DDP needs no find_unused_parameters; whatever the coins say."""
    for p in (0.0, 0.5, 1.0):
        wrapper = critical(
            kind,
            self_cond=self_cond,
            self_cond_train_prob=p,
            no_replace_prob=0.1,
            random_token_prob=0.1,
        )
        losses = wrapper(
            torch.randint(16, (8, 4, 6), generator=draws()), condition=LABELS, generator=draws()
        )
        losses.loss.backward()
        assert [
            name for name, parameter in wrapper.named_parameters() if parameter.grad is None
        ] == []
        assert losses.loss.item() == pytest.approx(
            (losses.generator_loss + losses.critic_loss).item(), rel=1e-5
        )


@pytest.mark.parametrize("kind", ["self", "second"])
def test_critics_save_as_safetensors_and_register_the_net_once(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    wrapper = critical(kind, self_cond=True)
    save_file(wrapper.state_dict(), tmp_path / "w.safetensors")
    wrapper.load_state_dict(load_file(tmp_path / "w.safetensors"))
    with pytest.raises(
        RuntimeError, match="share memory"
    ):  # theirs: the self-critic holds the net a second time
        peer = x_transformers.NonAutoregressiveWrapper(theirs(), mask_id=16, self_token_critic=True)
        save_file(peer.state_dict(), tmp_path / "peer.safetensors")


def test_the_critic_sees_the_composed_grid_and_the_label():
    critic = Recorder()
    wrapper = ours(token_critic=critic, condition_dropout=0.0)
    codes = torch.randint(16, (8, 4, 6), generator=draws())
    wrapper(codes, condition=LABELS, generator=draws(), t=torch.full((8,), 0.9))
    hidden = hide_exactly(
        codes, count_hidden(wrapper.objective.schedule, torch.full((8,), 0.9), 24), draws()
    )
    assert torch.equal(critic.codes[~hidden], codes[~hidden]) and (critic.codes[hidden] < 16).all()
    assert torch.equal(critic.conditioning["condition"], LABELS)


@pytest.mark.parametrize("target", ["changed", "hidden"])
def test_critic_targets(target):
    codes = torch.tensor([[[1, 2], [3, 4]]])
    hidden = torch.tensor([[[True, True], [False, False]]])
    composed = compose(codes, hidden, torch.tensor([1, 5]))
    assert composed.tolist() == [[[1, 5], [3, 4]]]
    expected = {"changed": [0.0, 1.0, 0.0, 0.0], "hidden": [1.0, 1.0, 0.0, 0.0]}[target]
    assert critic_targets(codes, composed, hidden, target).flatten().tolist() == expected


def test_theirs_calls_visible_true_cells_drawn():
    """Documents the difference: x-transformers labels the critic from the grid before it was
    composed."""
    seen = {}

    class Critic(Recorder):
        def forward(self, codes):
            seen["codes"] = codes
            return super().forward(codes)

    real = F.binary_cross_entropy_with_logits

    def record(logits, targets):
        seen["targets"] = targets
        return real(logits, targets)

    codes = torch.randint(16, (16, 24), generator=draws())
    torch.manual_seed(0)
    peer = x_transformers.NonAutoregressiveWrapper(theirs(), mask_id=16, token_critic=Critic())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "binary_cross_entropy_with_logits", record)
        peer(codes)
    right = seen["codes"] == codes
    assert seen["targets"][right].mean() > 0.5  # cells that show the true code, called drawn


def test_an_ideal_critic_is_the_posterior_that_a_cell_was_drawn(oracle):
    """The optimum of the critic's loss, one free logit for each (composed grid, cell), is the exact
    posterior.

    A generator that knows the conditionals draws the two cells S of z apart, so that p(x | S) is
    p(x without S) times p(x_i | x without S) over i in S; the posterior of S is that over its sum,
    all six S being as likely.
    """
    codes = draw_joint(oracle, 400_000)
    hidden = hide_exactly(codes, torch.full((len(codes),), 2), draws(1))
    logits = OracleNet(oracle)(codes.masked_fill(hidden, 3))[hidden]
    composed = compose(codes, hidden, draw_at(logits, torch.ones(len(logits)), draws(2)))
    targets = critic_targets(codes, composed, hidden, "hidden").flatten(1)
    index = (composed.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    sets = [mask for mask in all_grids(2, 4).bool() if mask.sum() == 2]
    for number, grid in list(enumerate(all_grids(3, 4)))[::9]:
        likely = []
        for mask in sets:
            known = oracle.joint[
                tuple(
                    slice(None) if m else g
                    for m, g in zip(mask.tolist(), grid.tolist(), strict=True)
                )
            ].sum()
            cells = oracle.conditional(grid.masked_fill(mask, 3))[mask]
            likely.append(known * cells.gather(1, grid[mask][:, None]).prod())
        posterior = torch.stack([p * mask for p, mask in zip(likely, sets, strict=True)]).sum(
            0
        ) / sum(likely)
        rows = targets[index == number].double()
        error = (posterior * (1 - posterior) / len(rows)).sqrt()
        assert len(rows) > 100 and ((rows.mean(0) - posterior).abs() < 4.5 * error).all()


@pytest.mark.parametrize("kind", ["self", "second"])
@pytest.mark.parametrize("self_cond", [False, True])
def test_generate_with_a_critic_fills_the_grid(kind, self_cond):
    wrapper = critical(kind, self_cond=self_cond)
    drawn = wrapper.generate(condition=LABELS, steps=4, guidance=2.0, noise_level_scale=0.5)
    assert drawn.shape == (8, 4, 6) and drawn.min() >= 0 and drawn.max() < 16
    assert torch.equal(
        drawn, wrapper.generate(condition=LABELS, steps=4, guidance=2.0, noise_level_scale=0.5)
    )


def test_only_the_critic_or_only_the_generator_is_trained():
    wrapper = critical("second")
    codes = torch.randint(16, (8, 4, 6), generator=draws())
    wrapper(codes, condition=LABELS, only_train_critic=True, generator=draws()).loss.backward()
    assert all(p.grad is None for p in wrapper.net.parameters())
    assert all(p.grad is not None for p in wrapper.token_critic.parameters())
    wrapper.zero_grad()
    losses = wrapper(codes, condition=LABELS, only_train_generator=True, generator=draws())
    losses.loss.backward()
    assert losses.critic_loss is None and all(
        p.grad is None for p in wrapper.token_critic.parameters()
    )


def test_self_conditioning_adds_to_what_the_user_adds():
    wrapper = ours(self_cond=True)
    torch.nn.init.normal_(wrapper.to_self_cond.weight)
    codes = torch.full((2, 4, 6), 16)
    extra = torch.randn(2, 4, 6, 32, generator=draws())
    wrapper.eval()
    both = wrapper.embed(codes, sum_embeds=extra)
    shift = wrapper.to_self_cond(wrapper.null_embed.expand(2, 4, 6, -1))
    assert torch.allclose(
        both, wrapper.net(codes, sum_embeds=extra + shift, return_embeddings=True), atol=1e-6
    )
    assert not torch.allclose(both, wrapper.embed(codes), atol=1e-3)


def conditional_net(**options):
    torch.manual_seed(0)
    layers = x_transformers.Encoder(
        dim=32, depth=1, heads=2, attn_dim_head=16, **options.pop("layers", {})
    )
    return x_transformers.TransformerWrapper(
        num_tokens=17, logits_dim=16, max_seq_len=24, attn_layers=layers, **options
    )


CONDITIONING = {
    "condition": (
        {"layers": {"dim_condition": 8, "use_adaptive_layernorm": True, "use_adaptive_layerscale": True}},
        {"condition": torch.randn(3, 8, generator=torch.Generator().manual_seed(0))},
    ),
    "embed_ids": ({"embed_num_tokens": {"kind": 5}}, {"embed_ids": {"kind": torch.tensor([[0], [1], [4]]).expand(3, 24)}}),
    "sum_embeds": ({}, {"sum_embeds": torch.randn(3, 24, 32, generator=torch.Generator().manual_seed(0))}),
    "context": (
        {"layers": {"cross_attend": True}},
        {"context": torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))},
    ),
    "prepend_embeds": ({}, {"prepend_embeds": torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(0))}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONING)
@pytest.mark.parametrize("self_cond", [False, True])
def test_conditioning_works_in_training_sampling_self_conditioning_and_critic(name, self_cond):
    options, given = CONDITIONING[name]
    wrapper = NonAutoregressiveWrapper(
        conditional_net(**options), mask_id=16, steps=3, self_cond=self_cond, self_token_critic=True
    )
    for parameter in wrapper.parameters():  # adaptive gains start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    codes = torch.randint(16, (3, 24), generator=draws())
    wrapper(codes, generator=draws(), **given).loss.backward()
    drawn = wrapper.generate(batch_size=3, **given)
    assert drawn.shape == (3, 24) and drawn.max() < 16
    scored = wrapper.criticise(drawn, **given)
    changed = {key: {k: v.flip(0) for k, v in value.items()} if isinstance(value, dict) else value.flip(0) for key, value in given.items()}  # fmt: skip
    assert not torch.allclose(scored[0], wrapper.criticise(drawn, **changed)[0], atol=1e-4)


def test_choices_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="critic_target is one of changed, hidden"):
        ours(critic_target="both")
    with pytest.raises(ValueError, match="not both"):
        ours(token_critic=Recorder(), self_token_critic=True)
    with pytest.raises(ValueError, match="needs a critic"):
        ours(can_mask_prev_unmasked=True)
    with pytest.raises(ValueError, match="has no such critic"):
        ours().generate(condition=LABELS, sampler="critic")


def test_filter_thres_keeps_the_best_share_of_the_codes():
    wrapper = ours()
    greedy = wrapper.generate(condition=LABELS, filter_thres=0.99, steps=1)
    with torch.no_grad():
        logits = wrapper.eval().net(torch.full((8, 4, 6), 16), LABELS)
    assert torch.equal(greedy, logits.argmax(-1))


@pytest.mark.slow
def test_two_processes_average_to_the_gradient_of_one(tmp_path):
    """With every option that adds parameters, and no find_unused_parameters."""
    from safetensors.torch import load_file

    running = []
    for world in (1, 2):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(world)}
        for rank in range(world):
            environment = {
                **os.environ,
                **place,
                "RANK": str(rank),
                "PYTHONPATH": str(repo()),
                "OMP_NUM_THREADS": "1",
            }
            command = [
                sys.executable,
                str(repo() / "tests" / "model" / "gradient_driver.py"),
                str(tmp_path / f"{world}.safetensors"),
            ]
            running.append(
                subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            )
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error[-2000:]
    found = [load_file(tmp_path / f"{world}.safetensors") for world in (1, 2)]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5), name
    assert any(gradient.abs().max() > 1e-3 for gradient in found[0].values())
