import math
import os
import subprocess
import sys
import warnings

import pytest
import torch

from maskgit.model.wrapper import NonAutoregressiveWrapper
from tests.conftest import free_port, repo
from tests.model.conftest import Recorder, draws, theirs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers
from tests.model.conftest import LABELS, critical, ours


def test_the_loss_is_positive_and_starts_near_uniform():
    wrapper = ours(num_codes=64, label_smoothing=0.0)
    codes = torch.randint(64, (32, 4, 6), generator=draws())
    loss = wrapper(codes, condition=torch.zeros(32, dtype=torch.int64), generator=draws()).loss
    assert 0.8 * math.log(64) < loss.item() < 1.5 * math.log(64)


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


def test_labels_are_dropped_in_training_only_one_coin_an_image():
    wrapper = ours(condition_dropout=0.3)
    labels = torch.ones(20_000, dtype=torch.int64)
    dropped = wrapper.drop(labels, wrapper.draw(len(labels), (1, 1), draws()).dropped)
    assert (dropped == 3).double().mean().item() == pytest.approx(0.3, abs=0.015)
    assert wrapper.eval().draw(len(labels), (1, 1), draws()).dropped is None
    assert torch.equal(wrapper.drop(labels, None), labels)


def test_every_parameter_gets_a_gradient():
    wrapper = ours(no_replace_prob=0.1, random_token_prob=0.1)
    wrapper(
        torch.randint(16, (8, 4, 6)),
        condition=torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]),
        generator=draws(),
    ).loss.backward()
    assert [name for name, p in wrapper.named_parameters() if p.grad is None] == []


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
@pytest.mark.parametrize("self_cond", [False, True])
def test_generate_with_a_critic_fills_the_grid(kind, self_cond):
    wrapper = critical(kind, self_cond=self_cond)
    drawn = wrapper.generate(condition=LABELS, steps=4, guidance=2.0, noise_level_scale=0.5)
    assert drawn.shape == (8, 4, 6) and drawn.min() >= 0 and drawn.max() < 16
    assert torch.equal(
        drawn, wrapper.generate(condition=LABELS, steps=4, guidance=2.0, noise_level_scale=0.5)
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
