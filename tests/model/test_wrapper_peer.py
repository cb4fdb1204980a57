"""Documents where x_transformers.NonAutoregressiveWrapper 2.31 differs: each trap runs theirs, then
ours.

A test that fails on `theirs` after an upgrade is good news: the trap is gone, and the docstring of
ours is to be mended.
"""

import math
import warnings

import pytest
import torch

from maskgit.model.wrapper import NonAutoregressiveWrapper
from tests.conftest import OracleNet
from tests.model.conftest import Recorder, draws, theirs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers
    from x_transformers import nonautoregressive_wrapper as module

NUM_CODES, CELLS = 16, 24
Theirs = x_transformers.NonAutoregressiveWrapper


def strong(net, std=0.3):
    """Weights large enough for what is known to matter."""
    torch.manual_seed(1)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return net


def calls_of(net):
    """A list that grows by the codes of each call of the net."""
    seen = []
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    return seen


def test_the_mask_token_is_generated_and_kept():
    def net():
        model = theirs(logits_dim=NUM_CODES + 1)
        with torch.no_grad():
            model.to_logits.weight[NUM_CODES] *= 3
        return model

    torch.manual_seed(0)
    assert (Theirs(net(), mask_id=NUM_CODES, steps=8).generate(batch_size=32) == NUM_CODES).any()
    drawn = NonAutoregressiveWrapper(net(), mask_id=NUM_CODES, steps=8).generate(batch_size=32)
    assert drawn.max() < NUM_CODES


def test_random_tokens_may_be_the_mask(monkeypatch):
    """All hidden cells become random tokens, so that a mask token seen by the net was drawn at
    random."""
    monkeypatch.setattr(module, "coin_flip", lambda: True)
    codes = torch.randint(NUM_CODES, (64, CELLS), generator=draws())
    net = theirs()
    seen = calls_of(net)
    torch.manual_seed(0)
    peer = Theirs(
        net,
        mask_id=NUM_CODES,
        random_token_prob=1.0,
        no_replace_prob=0.0,
        use_simple_mdlm_loss_weight=False,
    )
    peer(codes)
    assert (seen[0] == NUM_CODES).any()
    net = theirs()
    seen = calls_of(net)
    NonAutoregressiveWrapper(net, mask_id=NUM_CODES, random_token_prob=1.0)(
        codes, generator=draws()
    )
    assert not (seen[0] == NUM_CODES).any()


def test_conditioning_does_not_reach_the_critic():
    codes = torch.randint(NUM_CODES, (4, CELLS), generator=draws())
    extra = {"sum_embeds": torch.randn(4, CELLS, 32, generator=draws())}
    critics = [Recorder(), Recorder()]
    critics[0].forward = lambda codes, **given: (critics[0].__dict__.update(conditioning=given), torch.zeros(*codes.shape, 1) + critics[0].bias)[1]  # fmt: skip
    Theirs(theirs(), mask_id=NUM_CODES, token_critic=critics[0])(codes, **extra)
    NonAutoregressiveWrapper(theirs(), mask_id=NUM_CODES, token_critic=critics[1])(
        codes, generator=draws(), **extra
    )
    assert critics[0].conditioning == {} and torch.equal(
        critics[1].conditioning["sum_embeds"], extra["sum_embeds"]
    )


def test_what_is_added_to_the_input_trains_but_cannot_sample():
    extra = torch.randn(2, CELLS, 32, generator=draws())
    peer = Theirs(theirs(), mask_id=NUM_CODES, self_cond=True)
    with pytest.raises(TypeError, match="sum_embeds"):
        peer.generate(batch_size=2, sum_embeds=extra)
    for self_cond in (False, True):
        wrapper = NonAutoregressiveWrapper(theirs(), mask_id=NUM_CODES, self_cond=self_cond)
        assert wrapper.generate(batch_size=2, sum_embeds=extra).shape == (2, CELLS)


def test_self_conditioning_overwrites_what_the_user_adds():
    codes = torch.randint(NUM_CODES, (4, CELLS), generator=draws())
    extra = 3 * torch.randn(4, CELLS, 32, generator=draws())

    def difference(wrapper, **options):
        torch.manual_seed(0)
        plain = wrapper(codes, **options).loss.item()
        torch.manual_seed(0)
        return abs(wrapper(codes, sum_embeds=extra, **options).loss.item() - plain)

    peer = Theirs(theirs(), mask_id=NUM_CODES, self_cond=True, self_cond_train_prob=0.0, use_simple_mdlm_loss_weight=False,
                  no_replace_prob=0.0, random_token_prob=0.0)  # fmt: skip
    assert difference(peer) == 0
    wrapper = NonAutoregressiveWrapper(
        theirs(), mask_id=NUM_CODES, self_cond=True, self_cond_train_prob=0.0
    )
    torch.manual_seed(0)
    assert (
        abs(
            wrapper(codes, generator=draws()).loss
            - wrapper(codes, generator=draws(), sum_embeds=extra).loss
        )
        > 1e-3
    )


def test_rounds_that_reveal_nothing_still_run_the_net():
    net = theirs()
    seen = calls_of(net)
    Theirs(net, mask_id=NUM_CODES, steps=100, schedule="cosine").generate(batch_size=1)
    assert len(seen) == 100
    net = theirs()
    seen = calls_of(net)
    NonAutoregressiveWrapper(net, mask_id=NUM_CODES, steps=100).generate(batch_size=1)
    assert len(seen) == CELLS


def test_temperature_zero_gives_one_image(oracle):
    """Theirs has no noise left then; ours still has it on the confidence, so that the order
    differs."""
    torch.manual_seed(0)
    peer = Theirs(strong(theirs()), mask_id=NUM_CODES, steps=8)
    assert len(peer.generate(batch_size=8, start_temperature=0.0).unique(dim=0)) == 1
    wrapper = NonAutoregressiveWrapper(OracleNet(oracle), mask_id=3, steps=4)
    assert len(wrapper.generate(batch_size=64, start_temperature=0.0).unique(dim=0)) > 1


def test_one_coin_for_a_whole_batch():
    """Theirs keeps 15 % of the hidden cells in all images or in none; ours in about 15 % of the
    cells, every time."""
    codes = torch.randint(NUM_CODES, (256, CELLS), generator=draws())

    def shares(make):
        found = []
        for seed in range(6):
            net = theirs()
            seen = calls_of(net)
            make(net, seed)
            found.append((seen[0] == NUM_CODES).double().mean().item())
        return torch.tensor(found)

    def run_theirs(net, seed):
        module.random.__self__.seed(seed)  # Python's own random(), which ranks do not share
        torch.manual_seed(0)
        Theirs(net, mask_id=NUM_CODES, no_replace_prob=0.5, random_token_prob=0.0)(codes)

    def run_ours(net, seed):
        NonAutoregressiveWrapper(net, mask_id=NUM_CODES, no_replace_prob=0.5)(
            codes, generator=draws(seed)
        )

    assert shares(run_theirs).std() > 0.05
    assert shares(run_ours).std() < 0.02


def test_their_default_loss_falls_without_end():
    """A few steps on one batch: theirs goes down from a negative value, ours towards zero from
    above."""
    codes = torch.randint(NUM_CODES, (32, CELLS), generator=draws())
    ends = []
    for make in (Theirs, NonAutoregressiveWrapper):
        torch.manual_seed(0)
        wrapper = make(theirs(), mask_id=NUM_CODES)
        optimizer = torch.optim.AdamW(wrapper.parameters(), lr=3e-3)
        for _ in range(10):
            loss = wrapper(codes).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends.append(loss.item())
    assert ends[0] < -5 or math.isnan(ends[0])
    assert 0 < ends[1] < 1.3 * math.log(NUM_CODES)
