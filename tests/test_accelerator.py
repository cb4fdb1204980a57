"""What only an accelerator can show; where there is none, the proofs of test_waiting.py stand.

CUDA_VISIBLE_DEVICES=0 python -m pytest tests/test_accelerator.py
"""

import shutil
from pathlib import Path

import pytest
import torch

from maskgit.data.tokenization import tokenize_dataset
from maskgit.model import graphs
from maskgit.model.graphs import without_graphs
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.pipeline.pipeline import Pipeline
from maskgit.training.checkpoints import load_latest
from maskgit.training.launch import make_accelerator
from maskgit.training.trainer import Training, train
from tests.faults.test_divergence import poison
from tests.training.conftest import changed
from tests.training.test_waiting import DISCRIMINATORS, EVERYTHING, QUANTIZER
from vqgan.normalization import GroupNorm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")
LONG = {"eval_every": 1000, "preview_every": 1000, "log_every": 1000, "save_every": 1000}


@pytest.fixture
def no_waits():
    """-> a context in which a wait for the device is an error."""

    class Errors:
        def __enter__(self):
            torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *_):
            torch.cuda.set_sync_debug_mode("default")

    yield Errors()
    torch.cuda.set_sync_debug_mode("default")


def wrapper(**options):
    torch.manual_seed(0)
    sizes = {"dim": 64, "depth": 3, "heads": 2, "dim_head": 32}
    net = Transformer(codebook_size=64, grid=(8, 8), num_classes=5, **sizes)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return NonAutoregressiveWrapper(net, mask_id=64, **options).cuda()


@pytest.mark.parametrize("sampler", ["confidence", "random", "halton", "remask", "ancestral"])
def test_replayed_rounds_draw_the_same_codes_and_nothing_waits(sampler, no_waits):
    model, labels = wrapper().eval(), torch.arange(6) % 5
    options = {"condition": labels, "guidance": 2.0, "sampler": sampler, "steps": 5}
    with without_graphs():
        wanted = model.generate(seeds=range(6), **options)
    for _ in range(3):
        found = model.generate(seeds=range(6), **options)
        assert torch.equal(found, wanted)
    assert len(graphs._of_nets[model.net].known) > 0
    with no_waits:
        model.generate(seeds=range(6), **options)
    model.net.to(torch.float64).to(torch.float32)  # other memory: what was recorded is forgotten
    assert torch.equal(model.generate(seeds=range(6), **options), wanted)


def gone_on(config, tmp_path):
    """-> the tensors of a training, and of one that lost its second half and made it again."""
    halves = {**LONG, "steps": 8, "save_every": 4}
    config = changed(config, train={**config.train.model_dump(), **halves})
    config = config.model_copy(update={"run": str(tmp_path / "whole")})
    train(config)
    again = config.model_copy(update={"run": str(tmp_path / "again")})
    shutil.copytree(config.run, again.run)
    shutil.rmtree(Path(again.run) / "checkpoints" / "step_00000008")
    train(again)
    return [load_latest(Path(run)).tensors for run in (config.run, again.run)]


def assert_alike(first, second, atol):
    for part, values in first.items():
        for key, value in values.items():
            other = second[part][key].float()
            assert torch.allclose(value.float(), other, atol=atol), (part, key)


@pytest.fixture
def generator(tiny_configs):
    """The config of a generator, whose codes are there."""
    vqgan, generator = tiny_configs
    train(changed(vqgan, train=LONG))
    tokenize_dataset(vqgan.run, generator.codes)
    return changed(generator, model={"dropout": 0.0})


def test_a_generator_trains_alike_compiled_and_in_parts_and_goes_on(generator, tmp_path):
    ends = {}
    for name, own in {
        "eager": {},
        "compiled": {"compile": True},
        "parts": {"compile": True, "accumulate": 2},
    }.items():
        config = changed(generator, train={**LONG, "steps": 8, **own})
        train(config.model_copy(update={"run": str(tmp_path / name)}))
        ends[name] = load_latest(tmp_path / name).tensors
    assert_alike(ends["eager"], ends["compiled"], 2e-3)
    assert_alike(ends["eager"], ends["parts"], 2e-3)
    assert_alike(*gone_on(generator, tmp_path), 1e-4)


def test_a_step_of_the_trainer_waits_for_nothing(generator, tmp_path, no_waits):
    config = changed(generator, train={**LONG, "steps": 50, "precision": "bf16"})
    training = Training(config, make_accelerator(config.train, tmp_path))
    batch = [training.task.dataset.__getitems__([(i, 0) for i in range(8)])]
    for _ in range(3):
        training.one_step(batch)
    with no_waits:
        training.task.update(training.step, batch)


@pytest.mark.parametrize("discriminator", ["none", "patchgan", "stylegan"])
@pytest.mark.parametrize("quantizer", QUANTIZER)
def test_a_step_of_a_tokenizer_waits_for_nothing(
    tiny_configs, tmp_path, no_waits, quantizer, discriminator
):
    options = DISCRIMINATORS[discriminator]
    config = changed(
        tiny_configs[0],
        model={"quantizer": {"name": quantizer, **QUANTIZER[quantizer]}},
        loss={"adversarial": EVERYTHING | {"discriminator": options}} if options else {},
        train={**LONG, "steps": 50},
    )
    training = Training(config, make_accelerator(config.train, tmp_path))
    batch = [training.task.dataset.__getitems__([(i, 0) for i in range(8)])]
    for _ in range(4):
        training.one_step(batch)
    with no_waits:
        for later in range(2):  # with the penalty, and without
            training.task.update(training.step + later, batch)


def test_bad_steps_of_a_tokenizer_are_left_out_by_the_device(tiny_configs, monkeypatch):
    config = changed(tiny_configs[0], train={**LONG, "steps": 12})
    poison(monkeypatch, "tokenizer", {3, 7})
    train(config)
    tensors = load_latest(Path(config.run)).tensors
    assert tensors["tokenizer.optimizer"]["0:step"] == 10 == tensors["tokenizer.ema"]["n_averaged"]
    assert all(value.isfinite().all() for value in tensors["tokenizer.module"].values())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tokenizer_goes_on_as_it_would_have(tiny_configs, tmp_path, channels_last, precision):
    model = {"channels_last": channels_last}
    config = changed(tiny_configs[0], model=model, train={"precision": precision})
    assert_alike(*gone_on(config, tmp_path), 5e-3)


def test_bad_steps_are_left_out_by_the_device(generator, monkeypatch):
    real, calls = NonAutoregressiveWrapper.forward, []

    def forward(self, codes, **keywords):
        losses = real(self, codes, **keywords)
        calls.append(self.training)
        bad = self.training and calls.count(True) in (3, 5)
        return losses._replace(loss=losses.loss * float("nan")) if bad else losses

    monkeypatch.setattr(NonAutoregressiveWrapper, "forward", forward)
    config = changed(generator, train={**LONG, "steps": 8})
    train(config)
    tensors = load_latest(Path(config.run)).tensors
    assert tensors["maskgit.optimizer"]["0:step"] == 6 == tensors["maskgit.ema"]["n_averaged"]
    assert all(value.isfinite().all() for value in tensors["maskgit.module"].values())


def test_group_norm_keeps_format_and_layout():
    torch.manual_seed(0)
    norm, plain = GroupNorm(8, 32, eps=1e-6).cuda(), torch.nn.GroupNorm(8, 32, eps=1e-6).cuda()
    x = torch.randn(4, 32, 16, 16, device="cuda").to(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16):
        found = norm(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    wanted = plain(x.bfloat16().float())
    assert (found.float() - wanted).norm() < 0.01 * wanted.norm()
    assert torch.allclose(norm(x), plain(x), atol=1e-5)


def test_a_self_conditioned_model_learns_its_weights_in_bf16():
    model = wrapper(self_cond=True).train()
    codes = torch.randint(64, (4, 8, 8), device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(codes, condition=torch.arange(4, device="cuda")).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_come_in_bf16_and_compiled(tiny_pipeline):
    labels, seeds = [0, 1, 0, 1], range(4)
    wanted = torch.stack(list(tiny_pipeline.to("cuda").stream(labels, seeds)))
    compiled: Pipeline = tiny_pipeline.compile()
    found = torch.stack(list(compiled.stream(labels, seeds)))
    assert (found - wanted).abs().mean() < 0.02
    low = torch.stack(list(tiny_pipeline.to(precision="bf16").stream(labels, seeds)))
    assert low.dtype == torch.float32 and low.isfinite().all()
