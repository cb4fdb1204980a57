"""What the parity with TiTok's own code (tests/importing) does not show."""

import pytest
import torch

from vqgan.published.titok import ExpectedRows, TiTok, ToLatents, Unfolded
from vqgan.tokenizers import load_tokenizer

VIT = {"dim": 16, "depth": 1, "heads": 2}
TINY = {
    "image_size": 16, "patch": 8, "decoder_patch": 4, "num_codes": 5, "codebook_size": 8,
    "code_dim": 3, "encoder": VIT, "decoder": {**VIT, "dim": 8},
}  # fmt: skip
PIXELS = {"codes": 6, "code_dim": 4, "widths": [4, 8, 8], "num_blocks": 1, "norm_groups": 2}


@pytest.fixture(params=[None, PIXELS], ids=["one stage", "two stages"])
def tokenizer(request):
    return TiTok(**TINY, pixels=request.param).eval()


def images(count=2):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_images_become_a_row_of_codes_and_back(tokenizer, tmp_path):
    codes = tokenizer.encode(images())
    assert codes.shape == (2, 1, 5) and tokenizer.grid == (1, 5)
    decoded = tokenizer.decode(codes)
    assert decoded.shape == (2, 3, 16, 16) and decoded.abs().max() <= 1
    tokenizer.save(tmp_path / "tokenizer.safetensors")
    again = load_tokenizer(tmp_path / "tokenizer.safetensors")
    assert torch.equal(again.decode(codes), decoded)


def test_its_codes_have_no_places(tokenizer):
    assert tokenizer.grid_of(16, 16) == (1, 5) and tokenizer.size_of((1, 5)) == (16, 16)
    with pytest.raises(ValueError, match="images of 16x16 pixels only, not 16x32"):
        tokenizer.grid_of(16, 32)
    with pytest.raises(ValueError, match="1x5 codes for an image, not 2x5"):
        tokenizer.size_of((2, 5))
    with pytest.raises(ValueError, match="have no places in the image"):
        tokenizer.codes_of(torch.ones(16, 16, dtype=torch.bool))
    found = tokenizer.pixels_of(torch.ones(2, 1, 5, dtype=torch.bool))
    assert found.shape == (2, 16, 16) and not found.any()


def test_a_code_changes_the_whole_image_and_a_hidden_one_is_a_zero_latent(tokenizer):
    codes = tokenizer.encode(images(1))
    other = codes.clone()
    other[0, 0, 2] = (other[0, 0, 2] + 1) % 8
    latents = tokenizer.quantizer.lookup(codes)
    with torch.no_grad():
        changed = tokenizer.decoder(latents) != tokenizer.decoder(tokenizer.quantizer.lookup(other))
    assert changed.float().mean() > 0.9
    latents[..., 2] = 0
    hidden = torch.zeros_like(codes, dtype=torch.bool)
    hidden[0, 0, 2] = True
    with torch.no_grad():
        wanted = tokenizer.decoder(latents).clamp(-1, 1)
    assert torch.equal(tokenizer.decode(codes.masked_fill(hidden, 8), hidden), wanted)


def test_pixels_of_a_patch_lie_row_by_row_with_their_colours():
    net = Unfolded(1, 3, 2)
    torch.nn.init.zeros_(net.fold.weight)
    net.fold.bias.data = torch.arange(12.0)  # (row 2 + column) 3 + colour
    torch.nn.init.dirac_(net.conv.weight)
    torch.nn.init.zeros_(net.conv.bias)
    found = net(torch.zeros(1, 1, 2, 3))
    assert found.shape == (1, 3, 4, 6)
    assert found[0, 1].tolist() == [[1, 4] * 3, [7, 10] * 3] * 2


def test_the_mean_row_of_a_table_is_taken_by_probabilities():
    net = ExpectedRows(1, 2, 1)
    for part in (net.hidden, net.logits):
        torch.nn.init.zeros_(part.weight)
    net.logits.bias.data = torch.tensor([0.0, 3.0]).log().clamp(min=-50) + torch.tensor([50.0, 0])
    net.embedding.weight.data = torch.tensor([[4.0], [8.0]])
    assert net(torch.zeros(1, 1, 1, 1)).item() == pytest.approx((4 + 3 * 8) / 4)


def test_the_first_models_read_their_memory_across():
    """(latents, dim) = [[0, 1, 2], [3, 4, 5]] is read as (dim, latents): [[0, 1], [2, 3], [4, 5]]."""
    net = ToLatents(3, 1, 4, 2, 3, True, dim=3, depth=0, heads=1).eval()
    net.to_codes.weight.data = torch.eye(3)[:, :, None, None]
    torch.nn.init.zeros_(net.to_codes.bias)
    rows = torch.arange(6.0).view(1, 2, 3)
    net.through = lambda patches, latents: (None, rows)
    net.norm_out = torch.nn.Identity()
    image = torch.zeros(1, 3, 4, 4)
    assert net(image)[0, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    net.scrambled = False
    assert net(image)[0, :, 0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="16 channels do not divide into 3 heads"):
        TiTok(**{**TINY, "encoder": {**VIT, "heads": 3}}, pixels=None)
    with pytest.raises(ValueError, match="images of 16 pixels do not divide into its patches"):
        TiTok(**{**TINY, "patch": 5}, pixels=None)
