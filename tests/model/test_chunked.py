"""Logits in chunks of rows: the same losses and gradients, and never all of them at once."""

import pytest
import torch

from maskgit.model import chunked
from maskgit.model.chunked import MOST_LOGITS, cross_entropy, draw_rows, is_chunked
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from tests.vqgan.conftest import Sizes
from tests.waits import Waits, hurry

CODES, DIM = 24, 8


def rows(number, dtype=torch.float64):
    torch.manual_seed(0)
    head = torch.nn.Linear(DIM, CODES, dtype=dtype)
    cells = torch.randn(number, DIM, dtype=dtype, requires_grad=True)
    return head, cells, torch.randint(CODES, (number,)), torch.rand(number, dtype=dtype)


@pytest.mark.parametrize("most", [1, CODES, 5 * CODES, 36 * CODES])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_gradients_are_the_plain_ones(monkeypatch, most, smoothing):
    """By chunks of 1, 1, 5 rows, and of 36 of 37; a row at least, whatever is allowed."""
    head, cells, truth, counts = rows(37)
    found = {}
    for limit in (MOST_LOGITS, most):
        monkeypatch.setattr(chunked, "MOST_LOGITS", limit)
        losses, known = cross_entropy(head, cells, truth, CODES, smoothing)
        assert known.shape[1] == (CODES if limit == MOST_LOGITS else DIM)
        grads = torch.autograd.grad((losses * counts).sum(), [cells, head.weight, head.bias])
        found[limit] = [losses.detach(), *grads]
    plain = torch.nn.functional.cross_entropy(
        head(cells), truth, reduction="none", label_smoothing=smoothing
    )
    assert torch.equal(found[MOST_LOGITS][0], plain)
    for one, other in zip(*found.values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_codes_are_drawn_as_likely_in_chunks(monkeypatch):
    """From one distribution, 40,000 times: shares are right within 5 standard deviations."""
    head, cells, *_ = rows(1, torch.float32)
    many = cells.detach().expand(40_000, -1)
    wanted = head(cells).softmax(-1)[0]
    monkeypatch.setattr(chunked, "MOST_LOGITS", 1000 * CODES + 7)
    draws = torch.Generator().manual_seed(1)
    codes = draw_rows(head, many, CODES, 1.0, draws)
    shares = torch.bincount(codes, minlength=CODES) / len(codes)
    assert ((shares - wanted).abs() < 5 * (wanted * (1 - wanted) / len(codes)).sqrt()).all()


KINDS = {
    "plain": {},
    "visible cells": {"visible_weight": 0.1, "normalization": "image"},
    "mdlm": {"use_simple_mdlm_loss_weight": True},
    "critic": {"self_token_critic": True},
    "self-conditioned": {"self_cond": True},
}


def wrapper(codes=64, device="cpu", code_levels=(), **options):
    torch.manual_seed(0)
    with torch.device(device):
        net = Transformer(
            codebook_size=codes, grid=(4, 6), num_classes=3, dim=16, depth=1, heads=2, dim_head=8,
            code_levels=code_levels,
        )  # fmt: skip
        return NonAutoregressiveWrapper(net, mask_id=codes, **options).train()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code_levels", [(), (8, 8)])
def test_a_step_is_the_plain_one(monkeypatch, kind, code_levels):
    """The generator's loss and its gradients, of every objective; also of heads that share the
    vectors of levels."""
    model = wrapper(code_levels=code_levels, **KINDS[kind])
    codes, labels = torch.randint(64, (8, 4, 6)), torch.arange(8) % 3
    draws = model.draw(8, (4, 6), torch.Generator().manual_seed(0))
    found = []
    for limit in (MOST_LOGITS, 64 * 7):
        monkeypatch.setattr(chunked, "MOST_LOGITS", limit)
        model.zero_grad()
        losses = model(codes, condition=labels, draws=draws, only_train_generator=kind != "critic")
        assert (losses.critic_loss is not None) == (kind == "critic")
        losses.generator_loss.isfinite()
        losses.loss.backward()
        grads = {name: p.grad for name, p in model.net.named_parameters() if p.grad is not None}
        found.append((losses.generator_loss, grads))
    (one, grads), (other, again) = found
    assert torch.allclose(one, other, rtol=1e-6) and grads.keys() == again.keys() and len(grads) > 5
    if kind != "critic":  # whose loss is of codes drawn otherwise
        for name, grad in grads.items():
            assert torch.allclose(grad, again[name], rtol=1e-4, atol=1e-6), name


def test_the_bound_is_the_plain_one(monkeypatch):
    model = wrapper().eval()
    codes, found = torch.randint(64, (8, 4, 6)), []
    for limit in (MOST_LOGITS, 64 * 7):
        monkeypatch.setattr(chunked, "MOST_LOGITS", limit)
        found.append(model.bits(codes, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(*found, rtol=1e-6)


def peak(codes, images):
    """(bytes, elements of the largest tensor) of a step on `meta`, beside the net's weights."""
    made = wrapper(64).draw(images, (4, 6), torch.Generator().manual_seed(0))
    model = wrapper(codes, "meta")
    grids = torch.zeros(images, 4, 6, dtype=torch.int64, device="meta")
    labels = torch.zeros(images, dtype=torch.int64, device="meta")
    with Waits() as waits, Sizes() as sizes:
        model(grids, condition=labels, draws=made).loss.backward()
    assert waits.found == []
    return sizes.peak, sizes.largest


@pytest.mark.parametrize("codes", [2**14, 2**18])
def test_the_peak_does_not_grow_with_rows_times_codes(codes, monkeypatch):
    """512 images of 24 cells: all logits would be 0.8 and 12 GB, and a step holds several."""
    hurry(monkeypatch)
    weights = 4 * codes * 16
    bytes_, largest = peak(codes, 512)
    assert is_chunked(512 * 12, codes) and largest <= MOST_LOGITS
    assert bytes_ < 6 * 4 * MOST_LOGITS + 12 * weights
    assert peak(codes, 1024)[0] < 1.2 * bytes_
    monkeypatch.setattr(chunked, "MOST_LOGITS", 2**60)
    assert peak(codes, 1024)[0] > 2 * bytes_, "as it was"


def test_gradients_of_chunks_are_not_summed_in_bf16(monkeypatch):
    """Under autocast: the head's is as near to float32's as without chunks, though of 64 parts."""
    head, cells, truth, counts = rows(4096, torch.float32)
    counts = counts / counts.sum()

    def slope(most, low):
        monkeypatch.setattr(chunked, "MOST_LOGITS", most)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            losses, _ = cross_entropy(lambda part: head(part).float(), cells, truth, CODES)
        return torch.autograd.grad((losses * counts).sum(), head.weight)[0]

    exact = slope(MOST_LOGITS, False)
    whole, parts = (
        (slope(most, True) - exact).norm() / exact.norm() for most in (MOST_LOGITS, 64 * CODES)
    )
    assert parts < 1.5 * whole
