"""No waiting: what runs on an accelerator is never asked for a value by the host.

Shown without one: on fake tensors of CUDA, which have sizes and no values, so that whatever reads
one, or makes a tensor whose size depends on values, raises.
"""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from maskgit import SAMPLERS
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.samplers import engine, remasking
from maskgit.samplers.predictor import PART
from vqgan.tokenizer import Tokenizer

NETS = {
    "learned": {},
    "rotary": {"positions": "rotary"},
    "not flash": {"flash": False},
    "self-conditioned": {},
}


@pytest.fixture
def fake(monkeypatch):
    """Tensors without values; what the host knows of itself it still knows."""

    def on_the_host(work):
        def done(*arguments):
            with unset_fake_temporarily():
                return work(*arguments)

        return done

    for place in (engine, remasking):
        monkeypatch.setattr(place, "share_at", on_the_host(engine.share_at))
    monkeypatch.setattr(
        engine, "hidden_counts", lambda codes, mask_id: np.full(len(codes), codes[0].numel())
    )
    with FakeTensorMode() as mode:
        yield mode


def wrapper(kind="learned", codes=64, **options):
    with torch.device("cuda"):
        sizes = {"dim": 32, "depth": 2, "heads": 2, "dim_head": 16}
        net = Transformer(
            codebook_size=codes, grid=(4, 6), num_classes=3, **{**sizes, **NETS[kind]}
        )
        model = NonAutoregressiveWrapper(
            net,
            mask_id=codes,
            self_cond=kind == "self-conditioned",
            self_token_critic=True,
            **options,
        )
        model.token_critic = Transformer(
            codebook_size=codes, grid=(4, 6), num_classes=3, num_outputs=1, **sizes
        )
        return model.eval()


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_from_scratch(fake, sampler, kind, guidance):
    labels = torch.zeros(4, dtype=torch.int64, device="cuda")
    found = wrapper(kind).generate(
        condition=labels, guidance=guidance, sampler=sampler, steps=5, top_k=7, top_p=0.9
    )
    assert found.shape == (4, 4, 6) and found.device.type == "cuda"


@pytest.mark.parametrize("sampler", ["confidence", "random", "halton"])
def test_sampling_by_kept_passes(fake, sampler):
    labels = torch.zeros(4, dtype=torch.int64, device="cuda")
    found = wrapper().generate(condition=labels, guidance=3.0, sampler=sampler, steps=6, refresh=3)
    assert found.shape == (4, 4, 6)


def test_the_tokenizer(fake):
    with torch.device("cuda"):
        tokenizer = Tokenizer(
            image_size=16, channels=3, widths=[8, 8], latent_dim=4,
            quantizer={"name": "vq", "codebook_size": 16},
        ).eval()  # fmt: skip
        codes = tokenizer.encode(torch.empty(2, 3, 16, 16))
        assert tokenizer.decode(codes).device.type == "cuda"


def test_what_waits_is_found(fake):
    codes = torch.zeros(4, device="cuda")
    for wait in (lambda: codes.nonzero(), lambda: codes[codes > 0], lambda: bool(codes.any())):
        with pytest.raises(
            Exception, match=r"dynamic|data.dependent|DynamicOutput|DataDependent|aten"
        ):
            wait()


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the most elements of a tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor) and "view" not in str(func):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("codes", [2**14, 2**18])
def test_no_logits_are_too_many_for_a_kernel(fake, codes):
    """64 images of 256 cells, guided: 8.6e9 logits of 2^18 codes, were they made at once."""
    with torch.device("cuda"):
        net = Transformer(
            codebook_size=codes, grid=(16, 16), num_classes=3, dim=8, depth=1, heads=1
        )
        model = NonAutoregressiveWrapper(net, mask_id=codes).eval()
    labels = torch.zeros(64, dtype=torch.int64, device="cuda")
    with Largest() as largest:
        model.generate(condition=labels, guidance=3.0, steps=2)
    assert largest.elements <= 2 * PART
