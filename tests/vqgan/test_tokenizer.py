import pytest
import torch

from tests.conftest import TINY_TOKENIZER
from vqgan.quantizers import QUANTIZERS
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizers import load_tokenizer


def make(channels=1, **options):
    torch.manual_seed(0)
    return Tokenizer(
        image_size=16, channels=channels, **{**TINY_TOKENIZER, "quantizer": "fsq", **options}
    )


def images(batch=2, channels=1, height=16, width=16):
    return (
        torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2
        - 1
    )


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 16, 16), (3, 24, 16), (3, 8, 40)])
def test_any_size_divisible_by_the_downscale(channels, height, width, patch_size, attention):
    tokenizer = make(channels, patch_size=patch_size, attention=attention, num_blocks=1)
    f = tokenizer.downscale
    assert f == 2 * patch_size
    codes = tokenizer.encode(images(1, channels, height, width))
    assert codes.shape == (1, height // f, width // f)
    decoded = tokenizer.decode(codes)
    assert decoded.shape == (1, channels, height, width) and decoded.abs().max() <= 1


def test_another_size_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match="18x16 do not divide by the tokenizer's downscale 4; the nearest .* 16x16"
    ):
        make().encode(images(height=18))


def test_encoding_leaves_the_mode_and_the_codebook():
    tokenizer = make(quantizer={"name": "vq", "codebook_size": 16}).train()
    before = tokenizer.quantizer.vq.codebook.clone()
    tokenizer.encode(images())
    assert tokenizer.training and torch.equal(before, tokenizer.quantizer.vq.codebook)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_few_steps_learn_an_image(quantizer):
    options = {"lfq": {"name": "lfq", "codebook_size": 64}}.get(quantizer, quantizer)
    tokenizer = make(quantizer=options, num_blocks=1).train()
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    x = images(4).round()
    losses = []
    for _ in range(40):
        out = tokenizer(x)
        loss = (out.images - x).abs().mean()
        (loss + out.loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_save_and_load_give_the_same_codes(tmp_path):
    tokenizer = make(quantizer={"name": "vq", "codebook_size": 16}).eval()
    tokenizer.save(tmp_path / "tokenizer.safetensors", {"run": {"seed": 3}})
    other = load_tokenizer(tmp_path / "tokenizer.safetensors")
    assert torch.equal(other.encode(images()), tokenizer.encode(images()))
    assert other.config["image_size"] == 16 and (other.grid, other.codebook_size) == ((4, 4), 16)


def test_a_latent_that_is_not_finite_never_reaches_the_codebook():
    tokenizer = make(quantizer={"name": "vq", "codebook_size": 16}).train()
    before = tokenizer.quantizer.vq.codebook.clone()
    with pytest.raises(FloatingPointError, match="encoder's output is not finite"):
        tokenizer(images() * float("nan"))
    assert torch.equal(before, tokenizer.quantizer.vq.codebook)


@pytest.mark.parametrize("option", ["checkpointing", "channels_last"])
def test_memory_options_change_no_number(option):
    def gradients(**options):
        tokenizer = make(num_blocks=1, attention=True, **options).train()
        out = tokenizer(images())
        out.images.square().sum().backward()
        return [out.images, *(p.grad for p in tokenizer.parameters() if p.grad is not None)]

    for plain, other in zip(gradients(), gradients(**{option: True}), strict=True):
        assert torch.allclose(plain, other, rtol=1e-3, atol=1e-4)


def test_checkpointing_keeps_less_for_the_backward_pass():
    def kept(**options):
        tokenizer, total = make(num_blocks=2, widths=[16, 16], **options).train(), 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            tokenizer(images(4))
        return total

    assert kept(checkpointing=True) < 0.5 * kept()


def test_several_codes_a_cell_stand_side_by_side():
    tokenizer = make(quantizer={"name": "rvq", "codebook_size": 16, "codes_per_cell": 3}).eval()
    codes = tokenizer.encode(images())
    assert (
        tokenizer.grid == (4, 12)
        and codes.shape == (2, 4, 12)
        and tokenizer.size_of((4, 12)) == (16, 16)
    )
    assert torch.allclose(
        tokenizer(images()).images.clamp(-1, 1), tokenizer.decode(codes), atol=1e-5
    )
    asked = torch.zeros(16, 16, dtype=torch.bool)
    asked[5, 9] = True
    assert tokenizer.codes_of(asked).nonzero().tolist() == [[1, 6], [1, 7], [1, 8]]
    some = torch.zeros(1, 4, 12, dtype=torch.bool)
    some[0, 1, 7] = True
    assert tokenizer.pixels_of(some)[0, 4:8, 8:12].all() and tokenizer.pixels_of(some).sum() == 16
    assert torch.equal(
        tokenizer.decode(codes[:1], some), tokenizer.decode(codes[:1].masked_fill(some, 5), some)
    )


def test_hidden_cells_are_decoded_without_their_code():
    tokenizer = make()
    hidden = torch.zeros(1, 4, 4, dtype=torch.bool)
    hidden[0, 0, 0] = True
    one, other = torch.zeros(2, 1, 4, 4, dtype=torch.int64)
    other[0, 0, 0] = tokenizer.codebook_size  # a mask token
    assert torch.equal(tokenizer.decode(one, hidden), tokenizer.decode(other, hidden))
    assert torch.allclose(tokenizer.decode(one, hidden & False), tokenizer.decode(one), atol=1e-5)


def test_sizes_below_one_do_not_divide():
    for size in (0, -16):
        with pytest.raises(ValueError, match="do not divide"):
            Tokenizer(image_size=size)
