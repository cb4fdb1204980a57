"""No waiting: what runs on an accelerator is never asked for a value by the host.

Shown without one: on fake tensors of CUDA, which have sizes and no values, so that whatever reads
one, or makes a tensor whose size depends on values, raises.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from maskgit import SAMPLERS
from maskgit.config.sections import TrainConfig
from maskgit.model import draws
from maskgit.model.backbones import BACKBONES, make_backbone
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.samplers import engine, remasking
from maskgit.samplers.predictor import PART
from maskgit.training.ema import EMA
from maskgit.training.learner import Learner, finish
from tests.waits import Waits, hurry
from vqgan.tokenizer import Tokenizer

NETS = {
    "learned": {},
    "rotary": {"positions": "rotary"},
    "not flash": {"flash": False},
    "self-conditioned": {},
}


def on_the_host(work):
    """What the host knows of itself."""

    def done(*arguments):
        with unset_fake_temporarily():
            return work(*arguments)

    return done


@pytest.fixture
def fake(monkeypatch):
    """Tensors without values; what the host knows of itself it still knows."""
    hurry(monkeypatch)

    for place in (engine, remasking):
        monkeypatch.setattr(place, "share_at", on_the_host(engine.share_at))

    def counts(codes, mask_id):
        assert codes.device.type == "cpu", "from scratch they lie on the host"
        return np.full(len(codes), codes[0].numel())

    monkeypatch.setattr(engine, "hidden_counts", counts)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def wrapper(kind="learned", codes=64, device="cuda", **options):
    with torch.device(device):
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
    labels, model = torch.zeros(4, dtype=torch.int64, device="cuda"), wrapper(kind)
    with Waits() as waits:
        found = model.generate(
            condition=labels, guidance=guidance, sampler=sampler, steps=5, top_k=7, top_p=0.9
        )
    assert found.shape == (4, 4, 6) and found.device.type == "cuda"
    assert waits.found == [] and waits.seen > 100


@pytest.mark.parametrize("sampler", ["confidence", "random", "halton"])
def test_sampling_by_kept_passes(fake, sampler):
    labels, model = torch.zeros(4, dtype=torch.int64, device="cuda"), wrapper()
    with Waits() as waits:
        found = model.generate(condition=labels, guidance=3.0, sampler=sampler, steps=6, refresh=3)
    assert found.shape == (4, 4, 6)
    assert waits.found == [] and waits.seen > 100


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "transformer"])
@pytest.mark.parametrize("refresh", [1, 3])
def test_sampling_with_published_nets(fake, name, refresh):
    shape = {"codebook_size": 64, "grid": (4, 6), "num_classes": 3, "codes_per_cell": 2}
    with torch.device("cuda"):
        net = make_backbone({"name": name, "dim": 32, "depth": 2, "heads": 2}, **shape)
        model = NonAutoregressiveWrapper(net, mask_id=64).eval()
    labels = torch.zeros(4, dtype=torch.int64, device="cuda")
    scale = 1.0 if name == "maskgit_flax" else 3.0
    options = {"condition": labels, "guidance": scale, "steps": 5, "refresh": refresh}
    for sampler in ("confidence", "random", "halton"):
        found = model.generate(sampler=sampler, **options)
        assert found.shape == (4, 4, 6) and found.device.type == "cuda"


def test_the_tokenizer(fake):
    with torch.device("cuda"):
        tokenizer = Tokenizer(
            image_size=16, channels=3, widths=[8, 8], latent_dim=4,
            quantizer={"name": "vq", "codebook_size": 16},
        ).eval()  # fmt: skip
        images = torch.empty(2, 3, 16, 16)
    with Waits() as waits:
        assert tokenizer.decode(tokenizer.encode(images)).device.type == "cuda"
    assert waits.found == []


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


LOSSES = [
    {},
    {"visible_weight": 0.1, "normalization": "image"},
    {"use_simple_mdlm_loss_weight": True},
    {"no_replace_prob": 0.1, "random_token_prob": 0.1},
]


def losses_of(model, made, device):
    codes = torch.zeros(4, 4, 6, dtype=torch.int64, device=device)
    labels = torch.zeros(4, dtype=torch.int64, device=device)
    return model(codes, condition=labels, draws=made)


@pytest.fixture
def made(fake, monkeypatch):
    """(kind, options) -> what the host draws of a step."""
    monkeypatch.setattr(draws, "places_of", on_the_host(draws.places_of))

    def draw(kind, options):
        with unset_fake_temporarily():
            return wrapper(kind, device="cpu", **options).train().draw(4, (4, 6))

    return draw


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("options", LOSSES)
def test_the_losses_of_a_step(made, kind, options):
    found = losses_of(wrapper(kind, **options).train(), made(kind, options), "cuda")
    assert found.loss.device.type == "cuda" and found.critic_loss is not None


@pytest.mark.parametrize("kind", ["learned", "not flash"])
@pytest.mark.parametrize("options", LOSSES)
def test_the_gradients_of_a_step_and_its_end(made, kind, options):
    """On fake tensors of `meta`: torch follows gradients on CUDA with its driver only, and has no
    fused AdamW here."""
    model = wrapper(kind, device="meta", **options).train()
    learned, learner = list(model.parameters()), object.__new__(Learner)
    learner.module, learner.parameters, learner.peak = model, learned, 1.0
    learner.ema, learner.train = EMA(model), TrainConfig(clip_norm=1.0)
    learner.optimizer = SimpleNamespace(
        param_groups=[{}], step=lambda: None, zero_grad=lambda set_to_none: None
    )
    learner.accelerator = SimpleNamespace(reduce=lambda values, how: values)
    losses = losses_of(model, made(kind, options), "meta")
    losses.loss.backward()
    [norm] = finish(losses.loss, (learner, 0))
    assert norm.device.type == "meta" and learner.outcome.is_open
