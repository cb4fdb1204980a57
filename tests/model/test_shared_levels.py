import pytest
import torch

from tests.model.conftest import transformer


def test_codes_with_levels_share_what_they_have_in_common():
    net = transformer(code_levels=(4, 2, 2)).train()
    table = net.net.token_emb.emb.weight
    own = net.net.token_emb.emb.parametrizations.weight.original
    values = net.net.token_emb.emb.parametrizations.weight[0].values
    for code in range(16):
        wanted = own[code] + values[code % 4] + values[4 + code // 4 % 2] + values[6 + code // 8]
        assert torch.allclose(table[code], wanted, atol=1e-6)
    assert torch.equal(table[16], own[16]), "the mask token has a vector of its own"
    (-net(torch.full((1, 4, 6), 5))[..., 5].mean()).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    moved = (
        (net.net.to_logits.weight - transformer(code_levels=(4, 2, 2)).net.to_logits.weight)
        .abs()
        .sum(1)
    )
    assert moved[13] > 0.1, "13 differs from 5 in the last number only"


def test_levels_that_are_not_the_codes_are_refused():
    with pytest.raises(ValueError, match=r"16 codes are not the 15 of the levels \[5, 3\]"):
        transformer(code_levels=(5, 3))


def test_the_matrix_of_shared_logits_decays_and_the_shared_vectors_do_not():
    from maskgit.training.learner import decayed

    net, plain = transformer(code_levels=(4, 4)), transformer()
    matrices = decayed(net)
    assert len(matrices) == len(decayed(plain)) and all(
        isinstance(one, torch.nn.Parameter) for one in matrices
    )
    assert net.net.to_logits.parametrizations.weight.original in matrices
    assert net.net.to_logits.parametrizations.weight[0].values not in matrices
