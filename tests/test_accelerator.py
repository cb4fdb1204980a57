"""What only an accelerator can show; where there is none, the proofs of test_waiting.py stand.

CUDA_VISIBLE_DEVICES=0 python -m pytest tests/test_accelerator.py
"""

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
from maskgit.training.trainer import Training, train
from tests.training.conftest import changed
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


def test_a_generator_trains_alike_compiled_and_not_and_resumes(tiny_configs, tmp_path, no_waits):
    vqgan, generator = tiny_configs
    train(changed(vqgan, train=LONG))
    tokenize_dataset(vqgan.run, generator.codes)
    generator, ends = changed(generator, model={"dropout": 0.0}), {}
    for name, own in {
        "eager": {"steps": 8},
        "compiled": {"steps": 8, "compile": True},
        "resumed": {"steps": 4},
        "parts": {"steps": 8, "compile": True, "accumulate": 2},
    }.items():
        run = str(tmp_path / name)
        config = changed(generator, train={**LONG, "mixed_precision": "no", **own})
        config = config.model_copy(update={"run": run})
        train(config)
        if name == "resumed":
            train(changed(config, train={**LONG, "mixed_precision": "no", "steps": 8}))
        ends[name] = load_latest(tmp_path / name).tensors["maskgit.module"]
    for name in ("compiled", "resumed", "parts"):
        for key, value in ends["eager"].items():
            assert torch.allclose(value, ends[name][key], atol=2e-3), (name, key)


def test_a_step_of_the_trainer_waits_for_nothing(tiny_configs, tmp_path, no_waits):
    from maskgit.training.launch import make_accelerator

    vqgan, generator = tiny_configs
    train(changed(vqgan, train=LONG))
    tokenize_dataset(vqgan.run, generator.codes)
    config = changed(generator, train={**LONG, "steps": 50, "mixed_precision": "bf16"})
    training = Training(config, make_accelerator(config.train, tmp_path))
    batch = [training.task.dataset.__getitems__([(i, 0) for i in range(8)])]
    for _ in range(3):
        training.one_step(batch)
    with no_waits:
        training.task.update(training.step, batch)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_a_tokenizer_goes_on_as_it_would_have(
    tiny_configs, tmp_path, channels_last, mixed_precision
):
    ends = []
    for name, turns in {"whole": (8,), "halves": (4, 8)}.items():
        for steps in turns:
            options = {**LONG, "steps": steps, "mixed_precision": mixed_precision}
            config = changed(tiny_configs[0], train=options, model={"channels_last": channels_last})
            train(config.model_copy(update={"run": str(tmp_path / name)}))
        ends.append(load_latest(tmp_path / name).tensors)
    for part, values in ends[0].items():
        for key, value in values.items():
            assert torch.allclose(value.float(), ends[1][part][key].float(), atol=5e-3), (part, key)


def test_bad_steps_are_left_out_by_the_device(tiny_configs, tmp_path, monkeypatch):
    vqgan, generator = tiny_configs
    train(changed(vqgan, train=LONG))
    tokenize_dataset(vqgan.run, generator.codes)
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
