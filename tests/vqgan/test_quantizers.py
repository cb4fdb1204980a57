"""The contract of every entry of QUANTIZERS."""

import math

import pytest
import torch

from tests.conftest import free_port
from vqgan.quantizers import QUANTIZERS
from vqgan.registry import options_of

DIM = 8
SMALL = {"vq": {"codebook_size": 16, "codebook_dim": 4}, "fsq": {"levels": [4, 4]}, "lfq": {"codebook_size": 16},
         "bsq": {"codebook_size": 16}, "sim_vq": {"codebook_size": 16, "codebook_dim": 4},
         "rvq": {"codebook_size": 16, "codebook_dim": 4}}  # fmt: skip
each = pytest.mark.parametrize("name", QUANTIZERS)


def make(name):
    torch.manual_seed(0)
    return QUANTIZERS[name](DIM, **SMALL.get(name, {}))


def latents(batch=2, height=3, width=5, scale=1.0):
    return scale * torch.randn(
        batch, DIM, height, width, generator=torch.Generator().manual_seed(1)
    )


def trained(name):
    """After a few training steps, so that a codebook has seen data."""
    quantizer = make(name).train()
    for _ in range(5):
        quantizer(latents(16, scale=3.0))
    return quantizer.eval()


@each
@pytest.mark.parametrize("batch", [1, 2])
def test_shapes_types_and_range(name, batch):
    quantizer = trained(name)
    out = quantizer(latents(batch))
    assert out.latents.shape == (batch, DIM, 3, 5) and out.latents.dtype == torch.float32
    columns = 5 * getattr(quantizer, "codes_per_cell", 1)
    assert out.codes.shape == (batch, 3, columns) and out.codes.dtype == torch.int64
    assert out.codes.min() >= 0 and out.codes.max() < quantizer.codebook_size
    assert out.loss.shape == () and out.loss == 0, "no loss in eval mode"


@each
def test_the_remedy_for_unused_codes_names_an_option_of_its_own(name):
    remedy = make(name).remedy
    assert remedy.startswith("take ") and any(
        option in remedy for option in options_of(QUANTIZERS[name], ["dim"])
    )


@each
def test_lookup_gives_back_the_latents(name):
    quantizer = trained(name)
    out = quantizer(latents())
    assert torch.allclose(quantizer.lookup(out.codes), out.latents, atol=1e-5)


@each
def test_latents_of_codes_with_levels_are_sums_over_their_numbers(name):
    """Which is what `code_levels` promises: number j of a code is code // prod(levels[:j]) %
    levels[j]."""
    quantizer = QUANTIZERS["fsq"](DIM, levels=(3, 5, 4)) if name == "fsq" else trained(name)
    levels = getattr(quantizer, "code_levels", None)
    assert (levels is not None) == (name in ("fsq", "lfq", "bsq"))
    if levels is None:
        return
    assert math.prod(levels) == quantizer.codebook_size
    codes, base, total = torch.arange(quantizer.codebook_size), 1, 0
    found = quantizer.lookup(codes.view(1, 1, -1))[0, :, 0]
    for level in levels:
        total = total + found[:, codes // base % level * base] - found[:, :1]
        base *= level
    assert torch.allclose(found - found[:, :1], total, atol=1e-5)


@each
def test_eval_neither_moves_the_codebook_nor_draws(name):
    quantizer = trained(name)
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    assert torch.equal(quantizer(latents()).codes, quantizer(latents()).codes)
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


@each
def test_gradients_pass_straight_through(name):
    quantizer = trained(name).train()
    x = latents().requires_grad_()
    out = quantizer(x)
    out.latents.square().sum().backward()
    assert x.grad is not None and (x.grad != 0).any(1).double().mean() > 0.9


@each
def test_every_code_is_reached(name):
    quantizer = trained(name)
    codes = quantizer(latents(64, 8, 8, scale=3.0)).codes
    assert len(codes.unique()) == quantizer.codebook_size


@each
def test_bf16_autocast_changes_no_code(name):
    quantizer, x = trained(name), latents(8)
    with torch.autocast("cpu", torch.bfloat16):
        codes = quantizer(x).codes
    assert torch.equal(codes, quantizer(x).codes)
    assert quantizer(x.bfloat16()).latents.dtype == torch.float32


@each
@pytest.mark.parametrize("below", [True, False])
def test_codes_outside_the_codebook_are_refused(name, below):
    quantizer, codes = trained(name), torch.zeros(1, 2, 2, dtype=torch.int64)
    codes[0, 1, 1] = -1 if below else quantizer.codebook_size
    with pytest.raises(ValueError, match=rf"codes must lie in \[0, {quantizer.codebook_size}\)"):
        quantizer.lookup(codes)


@each
def test_state_round_trips(name):
    quantizer, other = trained(name), make(name).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(latents()).codes, quantizer(latents()).codes)


def test_vq_restarts_codes_that_nobody_uses():
    torch.manual_seed(0)
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=64, codebook_dim=4).train()
    with torch.no_grad():
        quantizer.vq._codebook.embed[:, 1:] = -quantizer.vq._codebook.embed[:, :1]
    for step in range(200):
        quantizer(torch.randn(16, DIM, 4, 4, generator=torch.Generator().manual_seed(step)))
    codes = quantizer.eval()(
        torch.randn(64, DIM, 8, 8, generator=torch.Generator().manual_seed(0))
    ).codes
    assert len(codes.unique()) > 58


def test_vq_starts_from_the_first_batch():
    quantizer = make("vq").train()
    x = latents(8)
    quantizer(x)
    directions = torch.nn.functional.normalize(
        quantizer.vq.project_in(x.movedim(1, -1)).flatten(0, 2), dim=-1
    )
    assert ((quantizer.vq.codebook @ directions.T).max(1).values > 1 - 1e-5).all()


def test_vq_parts_of_a_step_move_the_codebook_as_the_whole():
    whole, parts = make("vq").train(), make("vq").train()
    x = latents(4)
    for quantizer in (whole, parts):
        quantizer.vq._codebook.threshold_ema_dead_code = 0
        quantizer.vq._codebook.has_dead_code_replacement = False
    whole(x)
    parts(x[:2], accumulate=True)
    parts(x[2:])
    assert torch.allclose(whole.vq.codebook, parts.vq.codebook, atol=1e-6)


def test_rvq_goes_from_coarse_to_fine():
    """Each depth codes what is left: by itself, every code but the first would be far off."""
    quantizer = QUANTIZERS["rvq"](DIM, codebook_size=16, codes_per_cell=3, codebook_dim=DIM).train()
    for step in range(60):
        quantizer(torch.randn(16, DIM, 4, 4, generator=torch.Generator().manual_seed(step)))
    x = torch.randn(16, DIM, 4, 4, generator=torch.Generator().manual_seed(99))
    wanted = quantizer.project_in(x.movedim(1, -1))
    codes = quantizer.eval()(x).codes.unflatten(-1, (4, 3))
    rest = [wanted]
    for depth, vq in enumerate(quantizer.depths):
        nearest = torch.cdist(rest[-1].flatten(0, 2), vq.codebook).argmin(1).view(16, 4, 4)
        assert torch.equal(codes[..., depth], nearest)
        rest.append(rest[-1] - vq.codebook[nearest])
    errors = [left.square().mean().item() for left in rest]
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2] > 1.3**3 * errors[3]


def test_rvq_gradients_are_those_of_one_pass():
    """Not once for each depth."""
    quantizer = make("rvq").train()
    x = latents().requires_grad_()
    quantizer(x).latents.sum().backward()
    expected = quantizer.project_in.weight.T @ quantizer.project_out.weight.sum(0)
    assert torch.allclose(x.grad, expected.view(1, DIM, 1, 1).expand_as(x), atol=1e-5)


def test_rvq_parts_of_a_step_move_the_codebooks_as_the_whole():
    whole, parts = make("rvq").train(), make("rvq").train()
    x = latents(4)
    for quantizer in (whole, parts):
        for vq in quantizer.depths:
            vq._codebook.threshold_ema_dead_code = 0
            vq._codebook.has_dead_code_replacement = False
    whole(x)
    parts(x[:2], accumulate=True)
    parts(x[2:])
    for a, b in zip(whole.depths, parts.depths, strict=True):
        assert torch.allclose(a.codebook, b.codebook, atol=1e-6)


def test_rvq_of_one_code_is_vq():
    with pytest.raises(ValueError, match="2 or more codes_per_cell, not 1: vq"):
        QUANTIZERS["rvq"](DIM, codes_per_cell=1)


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


@pytest.mark.parametrize("name", ["vq", "sim_vq", "rvq"])
def test_many_distances_are_taken_part_by_part(name, monkeypatch):
    quantizer = trained(name)
    whole = quantizer(latents())
    monkeypatch.setattr("vqgan.quantizers.codebooks.MOST_DISTANCES", 16 * 7)
    parts = quantizer(latents())
    assert torch.equal(whole.codes, parts.codes) and torch.allclose(
        whole.latents, parts.latents, atol=1e-6
    )


def test_vq_starts_from_means_if_told():
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=16, codebook_dim=4, kmeans=True)
    before = quantizer.state_dict()["vq._codebook.embed"].clone()
    assert quantizer.eval()(latents(3)).codes.unique().tolist() == [0], "there is no codebook yet"
    assert (
        torch.equal(quantizer.state_dict()["vq._codebook.embed"], before)
        and not quantizer.vq._codebook.initted
    )
    quantizer.train()(latents(16))
    assert len(quantizer.eval()(latents(16)).codes.unique()) == 16


def test_vq_without_restarts_keeps_the_codes_that_nobody_uses():
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=64, codebook_dim=4, dead_below=0.0).train()
    before = quantizer.vq.codebook.clone()
    for _ in range(3):
        codes = quantizer(latents(1)).codes
    unused = torch.ones(64, dtype=torch.bool)
    unused[codes.flatten()] = False
    moved = (quantizer.vq.codebook - before).norm(dim=-1)
    assert unused.sum() > 10 and (moved[unused] < 0.1).double().mean() > 0.8


def _two_of_a_group(rank, port, folder, name, options):
    """One of two processes, on data of its own: its codebooks after the first training step ->
    folder/rank.pt."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = QUANTIZERS[name](DIM, codebook_size=16, codebook_dim=DIM, **options).train()
    noise = torch.randn(8, DIM, 4, 4, generator=torch.Generator().manual_seed(rank))
    quantizer(noise + (3.0 if rank else -3.0))
    codebooks = {key: value for key, value in quantizer.state_dict().items() if "_codebook." in key}
    torch.save(codebooks, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("vq", {}), ("vq", {"kmeans": True}), ("rvq", {})])
def test_codes_start_and_restart_from_the_data_of_all_processes(name, options, tmp_path):
    torch.multiprocessing.spawn(_two_of_a_group, (free_port(), tmp_path, name, options), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one), "one codebook, whoever holds it"
    first = next(value for key, value in one.items() if key.endswith("._codebook.embed"))[0]
    sides = first @ (first[0] / first[0].norm())
    assert (sides > 0).any() and (sides < 0).any(), "codes of either process's data"


def test_a_large_codebook_is_not_restarted_for_ever():
    """240 cells a step and 1,024 codes: a code is dead by its share of the cells, not by their
    number."""
    torch.manual_seed(0)
    quantizer = QUANTIZERS["vq"](DIM, codebook_size=1024, codebook_dim=8, decay=0.9).train()
    batches = [
        torch.randn(16, DIM, 3, 5, generator=torch.Generator().manual_seed(step % 8))
        for step in range(300)
    ]
    for batch in batches[:-8]:
        quantizer(batch)
    before = quantizer.vq.codebook.clone()
    for batch in batches[-8:]:
        quantizer(batch)
    moved = (quantizer.vq.codebook - before).norm(dim=-1) > 0.5
    assert moved.double().mean() < 0.25


def test_lfq_codes_are_big_endian_signs():
    quantizer = QUANTIZERS["lfq"](4, codebook_size=16).eval()
    with torch.no_grad():
        quantizer.project_in.weight.copy_(torch.eye(4))
        quantizer.project_in.bias.zero_()
    codes = quantizer(torch.tensor([1.0, -1, 1, 1]).view(1, 4, 1, 1)).codes
    assert codes.item() == 0b1011


def test_fsq_counts_its_levels():
    assert QUANTIZERS["fsq"](DIM, levels=[8, 5, 5]).codebook_size == 200
    assert QUANTIZERS["fsq"](DIM, levels=[2, 2, 2]).codebook_size == 8
