import warnings

import pytest
import torch
import torch.distributed as dist

from tests.conftest import free_port
from tests.vqgan.conftest import DIM, latents, make
from vqgan.quantizers import QUANTIZERS, signs


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_bits_want_a_power_of_two(name):
    with pytest.raises(ValueError, match="power of two, not 12"):
        QUANTIZERS[name](DIM, codebook_size=12)


def test_the_entropy_of_bsq_is_that_of_its_soft_codes():
    """Against all 16 codes: their softmax of the inner products is the product of the bits' own
    probabilities."""
    quantizer = make("bsq").train()
    u = torch.nn.functional.normalize(
        torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    corners = quantizer.corners(torch.arange(16))
    soft = (quantizer.inverse_temperature * u @ corners.T).softmax(-1)
    by_distance = (-torch.cdist(u, corners).square()).softmax(-1)
    assert torch.allclose(soft, by_distance, atol=1e-6), (
        "by default, that of minus the squared distances"
    )
    per_cell = torch.special.entr(soft).sum(-1).mean()
    quantizer.diversity, quantizer.commitment, quantizer.entropy_weight = 0.0, 0.0, 1.0
    assert quantizer.loss_of(u, u).item() == pytest.approx(per_cell.item(), rel=1e-5)
    quantizer.diversity = 1.0
    ones = torch.stack(
        [soft[:, (torch.arange(16) & bit) != 0].sum(1) for bit in quantizer.bits], 1
    ).mean(0)
    whole = (torch.special.entr(ones) + torch.special.entr(1 - ones)).sum()
    assert quantizer.loss_of(u, u).item() == pytest.approx((per_cell - whole).item(), abs=1e-5)


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_the_entropy_of_a_step_in_parts_is_that_of_the_whole(name):
    quantizer, x = make(name).train(), latents(8, scale=0.5)
    whole = quantizer(x).loss
    gradients = torch.autograd.grad(whole, list(quantizer.project_in.parameters()))
    quantizer.expect(iter(x.chunk(4)))
    parts = [
        quantizer(part, accumulate=number < 3).loss / 4 for number, part in enumerate(x.chunk(4))
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-6)
    found = torch.autograd.grad(sum(parts), list(quantizer.project_in.parameters()))
    for one, other in zip(found, gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    alone = sum(quantizer(part).loss / 4 for part in x.chunk(4))
    assert abs(alone.item() - whole.item()) > 1e-4, (
        "the next step was not told: each part is on its own"
    )


def test_the_loss_of_lfq_is_the_library_s():
    """On one process, where the library takes the mean over processes rightly."""
    import vector_quantize_pytorch as vqp

    quantizer = make("lfq").train()
    peer = vqp.LFQ(
        dim=DIM, codebook_size=16, entropy_loss_weight=quantizer.entropy_weight, diversity_gamma=quantizer.diversity,
        commitment_loss_weight=quantizer.commitment,
    ).train()  # fmt: skip
    for side in ("project_in", "project_out"):
        getattr(peer, side).load_state_dict(getattr(quantizer, side).state_dict())
    x = latents(8, scale=0.05)
    wanted, codes, loss = peer(x)
    found = quantizer(x)
    assert torch.equal(found.codes, codes) and torch.allclose(found.latents, wanted, atol=1e-5)
    assert found.loss.item() == pytest.approx(loss.item(), abs=2e-5)


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_codes_of_18_bits_make_nothing_of_their_number(name):
    quantizer = QUANTIZERS[name](DIM, codebook_size=2**18).train()
    assert sum(p.numel() for p in [*quantizer.parameters(), *quantizer.buffers()]) < 1000
    out = quantizer(latents(4))
    assert out.codes.max() > 2**12 and torch.isfinite(out.loss)
    assert torch.allclose(quantizer.lookup(out.codes), out.latents, atol=1e-5)


def test_lfq_codes_are_big_endian_signs():
    quantizer = QUANTIZERS["lfq"](4, codebook_size=16).eval()
    with torch.no_grad():
        quantizer.project_in.weight.copy_(torch.eye(4))
        quantizer.project_in.bias.zero_()
    codes = quantizer(torch.tensor([1.0, -1, 1, 1]).view(1, 4, 1, 1)).codes
    assert codes.item() == 0b1011


def _mean_of_two(rank, port):
    """One of two processes: the mean of 0 and 1 times numbers, and the gradient of its square."""
    warnings.simplefilter("error")
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    numbers = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = signs._over_processes(rank * numbers)
    (mean.square().sum() / 2).backward()
    assert mean.tolist() == [0.5, 1.0]
    assert numbers.grad.tolist() == [0.5 * rank, 1.0 * rank]  # of both processes' losses
    dist.destroy_process_group()


def test_means_over_processes_have_their_gradient_and_nothing_deprecated_is_called():
    torch.multiprocessing.spawn(_mean_of_two, (free_port(),), nprocs=2)
