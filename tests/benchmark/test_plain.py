import pytest
import torch

from maskgit.benchmark.plain import CELLS, CODES, PlainPipeline, PlainVQVAE
from tests.benchmark.conftest import CPU


@pytest.mark.parametrize("flip", [False, True])
def test_the_plain_pipeline_trains_and_samples(flip, tmp_path):
    images = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8)
    plain = PlainPipeline(images, torch.arange(64) % 10, 10, CPU, flip=flip)
    assert plain.train_tokenizer(0.5) >= 1
    plain.tokenize()
    assert plain.codes.shape == (64, 1 + flip, CELLS) and plain.codes.max() < CODES
    assert plain.train_generator(0.5) >= 1
    torch.manual_seed(1)
    drawn = plain.sample(torch.tensor([1, 2, 3]))
    plain.save(tmp_path / "plain.safetensors")
    again = PlainPipeline(images, torch.arange(64) % 10, 10, CPU, flip=flip)
    again.load(tmp_path / "plain.safetensors")
    torch.manual_seed(1)
    assert torch.equal(again.sample(torch.tensor([1, 2, 3])), drawn)
    assert drawn.shape == (3, 1, 28, 28) and drawn.abs().max() <= 1


def test_the_plain_tokenizer_decodes_what_it_quantises():
    torch.manual_seed(0)
    model = PlainVQVAE()
    images = torch.rand(40, 1, 28, 28) * 2 - 1
    model(images)  # k-means
    model.eval()
    with torch.no_grad():
        decoded, _ = model(images)
    assert torch.allclose(model.decode(model.encode(images)), decoded.clamp(-1, 1), atol=1e-5)
    colour = PlainVQVAE(3).eval()
    assert colour.encode(torch.zeros(2, 3, 32, 32)).shape == (2, 8, 8)
    assert colour.decode(torch.zeros(2, 8, 8, dtype=torch.int64)).shape == (2, 3, 32, 32)
