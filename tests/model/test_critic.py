import warnings

import pytest
import torch
import torch.nn.functional as F

from maskgit.model.critic import compose, critic_targets, draw_at
from maskgit.model.masking import count_hidden, hide_exactly, stratified_times
from tests.conftest import OracleNet, all_grids
from tests.model.conftest import Recorder, draws, theirs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers
from tests.model.conftest import LABELS, critical, draw_joint, ours


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


@pytest.mark.parametrize("kind", ["self", "second"])
def test_critics_save_as_safetensors_and_register_the_net_once(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    wrapper = critical(kind, self_cond=True)
    save_file(wrapper.state_dict(), tmp_path / "w.safetensors")
    wrapper.load_state_dict(load_file(tmp_path / "w.safetensors"))
    # theirs: the self-critic holds the net a second time
    with pytest.raises(RuntimeError, match="share memory"):
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
    composed = compose(codes, hidden, draw_at(logits, 1.0, draws(2)))
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
