from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from maskgit.config.loading import load
from tests.vqgan.conftest import GIB, Sizes, to_fake
from vqgan.autoencoder import Decoder, Encoder
from vqgan.normalization import GroupNorm, in_place_of
from vqgan.tokenizer import Tokenizer

FORMATS = [torch.contiguous_format, torch.channels_last]


def made(silu, dtype=torch.float32):
    """Ours and PyTorch's with the same weights; images of another mean in each channel."""
    torch.manual_seed(0)
    ours, theirs = GroupNorm(3, 12, eps=1e-6, silu=silu), nn.GroupNorm(3, 12, eps=1e-6)
    for weight in ours.parameters():
        nn.init.normal_(weight, 0.5)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 12, 5, 7) * 2 + torch.arange(12.0)[:, None, None]
    return ours, theirs, images.to(dtype)


def lean(ours, *others):
    """Ours as it is on an accelerator."""
    ours.forward = lambda x: in_place_of(ours, x)
    return ours, *others


def gradients(net, images, silu=False, **options):
    images = images.detach().requires_grad_()
    found = F.silu(net(images)) if silu else net(images)
    slope = torch.cos(torch.arange(found.numel())).view(found.shape).to(found)
    return found, *torch.autograd.grad(found, (images, *net.parameters()), slope, **options)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("silu", [False, True])
def test_float32_on_a_cpu_is_nn_group_norm(silu, memory_format):
    ours, theirs, images = made(silu)
    images = images.contiguous(memory_format=memory_format)
    for found, wanted in zip(gradients(ours, images), gradients(theirs, images, silu), strict=True):
        assert torch.equal(found, wanted)
    assert ours(images).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_stays_bf16_and_channels_last_by_float32_statistics(silu, memory_format, autocast):
    ours, theirs, images = lean(*made(silu, torch.bfloat16))
    images = images.contiguous(memory_format=memory_format)
    with torch.autocast("cpu", enabled=autocast):
        found, *slopes = gradients(ours, images)
    wanted = gradients(theirs.double(), images.double(), silu)
    for one in (found, slopes[0]):
        assert one.dtype == torch.bfloat16 and one.is_contiguous(memory_format=memory_format)
    assert all(slope.dtype == torch.float32 for slope in slopes[1:]), "as the weights"
    for one, true in zip((found, *slopes), wanted, strict=True):
        error = (one.double() - true).abs().max() / true.abs().max()
        assert error < 0.012, "a rounding of 2^-8 each, of what is between and of the slope"


@pytest.mark.parametrize("silu", [False, True])
def test_float32_elsewhere_is_right_to_rounding(silu):
    ours, theirs, images = lean(*made(silu))
    wanted = gradients(theirs.double(), images.double(), silu)
    for one, true in zip(gradients(ours, images), wanted, strict=True):
        torch.testing.assert_close(one.double(), true, rtol=1e-4, atol=1e-4)


def test_a_gradient_penalty_has_its_gradient():
    """As a discriminator's is made: the gradient of the squared gradient."""

    def of_penalty(net, images):
        slope = gradients(net, images, create_graph=True)[1]
        return torch.autograd.grad(slope.square().sum(), next(iter(net.parameters())))[0]

    ours, theirs, images = lean(*made(False, torch.bfloat16))
    wanted = of_penalty(theirs.double(), images.double())
    assert (of_penalty(ours, images) - wanted).abs().max() < 0.02 * wanted.abs().max()


def peak(device, **options):
    """GiB that a training pass of 16 images of 256 px takes in half precision, but the weights.

    On `cuda` by autocast, but its gradients, which torch follows with a driver only: of these on
    `meta`, all of it in bf16.
    """
    config = load("imagenet256/vqgan").model.model_dump() | options
    model = Tokenizer(image_size=256, channels=3, **config).train()
    is_cuda = device == "cuda"
    dtype = torch.float32 if is_cuda else torch.bfloat16
    with FakeTensorMode(allow_non_fake_inputs=True) if is_cuda else nullcontext():
        to_fake(model, device) if is_cuda else model.to(device, dtype)
        images = torch.empty(16, 3, 256, 256, device=device, dtype=dtype)
        with Sizes() as sizes:
            with torch.autocast("cuda", torch.float16, enabled=is_cuda):
                found = model.decoder(model.encoder(images))
            if not is_cuda:
                found.mean().backward()
    return sizes.peak / GIB


@pytest.mark.parametrize("device", ["cuda", "meta"])
def test_a_tokenizers_training_takes_little_memory(device, monkeypatch):
    """20 GiB on CUDA where group norm is PyTorch's; 12.4 where it keeps bf16, but what SiLU takes, too."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    whole, again = peak(device, checkpointing=False), peak(device, checkpointing=True)
    print(device, whole, again)
    assert whole < 12 and again < 4.5


def test_tokenizers_have_no_other():
    for half in (Encoder, Decoder):
        made = half(3, 4, widths=[16, 32], attention=True)
        kinds = {type(m) for m in made.modules() if isinstance(m, nn.GroupNorm)}
        assert kinds == {GroupNorm}
