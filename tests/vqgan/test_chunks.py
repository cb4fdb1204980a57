from math import inf
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from maskgit.config.loading import load
from maskgit.machine import usual_batch
from tests.vqgan.conftest import GIB, Sizes, to_fake
from vqgan import chunks, grids
from vqgan.chunks import fitting, free_memory, in_chunks
from vqgan.tokenizer import Tokenizer

CONFIGS = [f"imagenet256/{name}" for name in ("vqgan", "vqgan_16384", "vqgan_fsq", "vqgan_lfq")]


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_fits_a_card_at_imagenets_size(name, monkeypatch):
    """On fake tensors of CUDA: 500 images of 256 px, which would take 63 GiB in one piece."""
    monkeypatch.setattr("maskgit.machine.cpu_only", lambda: False)
    model = Tokenizer(image_size=256, channels=3, **load(name).model.model_dump()).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        to_fake(model, "cuda")
        images = torch.empty(usual_batch(), 3, 256, 256)
        with Sizes() as sizes:
            codes = model.encode(images)
            assert codes.shape == (500, 16, 16)
            decoded = model.decode(codes)
    assert decoded.shape == images.shape
    assert sizes.largest < 2**30 and 6 * GIB < sizes.peak < 11 * GIB


@pytest.mark.parametrize("quantizer", ["fsq", {"name": "vq", "codebook_size": 16}])
def test_chunks_change_no_image(quantizer, monkeypatch):
    torch.manual_seed(0)
    options = {"widths": [8, 8], "num_blocks": 1, "latent_dim": 4, "quantizer": quantizer}
    model = Tokenizer(image_size=16, channels=1, **options).eval()
    images = torch.rand(7, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = model.encode(images)
    hidden = torch.rand(codes.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    whole = [model.decode(codes), model.decode(codes, hidden)]
    asked = []
    monkeypatch.setattr(grids, "MOST_ON_CPUS", 3 * 8 * 16 * 16)  # three images
    model.decoder.register_forward_hook(lambda module, given, out: asked.append(len(out)))
    assert torch.equal(model.encode(images), codes)
    for found, wanted in zip(
        [model.decode(codes), model.decode(codes, hidden)], whole, strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert asked == [3, 3, 1] * 2


def test_half_as_many_where_memory_ran_out(capfd):
    asked = []

    def work(part):
        rows = range(10)[part]
        asked.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return list(rows)

    assert [row for rows in in_chunks(work, 10, 8, "grids") for row in rows] == list(range(10))
    assert asked == [8, 4, 2, 2, 2, 2, 2]
    assert capfd.readouterr().err.splitlines() == [
        "out of memory: 4 grids at a time", "out of memory: 2 grids at a time"
    ]  # fmt: skip


def test_a_single_row_that_does_not_fit_is_an_error():
    def work(part):
        raise torch.OutOfMemoryError("a row")

    with pytest.raises(torch.OutOfMemoryError, match="a row"):
        list(in_chunks(work, 2, 2))


def test_chunks_are_planned_by_what_is_free(monkeypatch):
    device = torch.device("cuda")
    assert free_memory(torch.device("cpu")) == inf
    card = SimpleNamespace(
        mem_get_info=lambda _: (70, 80), memory_reserved=lambda _: 9, memory_allocated=lambda _: 4
    )
    with monkeypatch.context() as there:
        there.setattr("torch.accelerator.current_accelerator", lambda **_: device)
        there.setattr("torch.get_device_module", lambda _: card)
        assert free_memory(device) == 75 and free_memory(torch.device("meta")) == inf
    monkeypatch.setattr(chunks, "free_memory", lambda _: 100)
    assert [fitting(most, each, device) for most, each in ((50, 8), (4, 8), (9, 1000))] == [
        10,
        4,
        1,
    ]
    model = Tokenizer(image_size=16, widths=[8, 8], num_blocks=1)
    assert model.at_once(16, 16, device) == 1
    monkeypatch.setattr(chunks, "free_memory", lambda _: 20 * 8 * 16 * 16 * 10)
    assert model.at_once(16, 16, device) == 8 and model.at_once(32, 16, device) == 4
