"""The contract of every entry of QUANTIZERS."""

import math

import pytest
import torch

from maskgit.config.loading import parse
from tests.vqgan.conftest import DIM, latents, make, trained
from vqgan.quantizers import QUANTIZERS
from vqgan.registry import options_of

each = pytest.mark.parametrize("name", QUANTIZERS)


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


def test_fsq_counts_its_levels():
    assert QUANTIZERS["fsq"](DIM, levels=[8, 5, 5]).codebook_size == 200
    assert QUANTIZERS["fsq"](DIM, levels=[2, 2, 2]).codebook_size == 8


@pytest.mark.parametrize("name", ["vq", "sim_vq", "rvq", "lfq", "bsq"])
@pytest.mark.parametrize("size", [-1, 0, 1, 2**40])
def test_a_codebook_of_no_use_or_without_end_is_refused_by_a_config(name, size):
    model = {"quantizer": {"name": name, "codebook_size": size}}
    with pytest.raises(ValueError, match="codebook_size: Input should be"):
        parse({"task": "tokenizer", "model": model}, "t")
