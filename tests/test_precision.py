import pytest
import torch

from maskgit import precision
from maskgit.config.loading import load, save
from maskgit.precision import best_precision, dtype_of, has_autocast, uncached_autocast
from maskgit.training import launch
from maskgit.training.launch import with_precision
from tests.model.conftest import draws, ours


@pytest.mark.parametrize(("bf16", "best"), [(0.7, "fp32"), (1.2, "fp32"), (2.0, "bf16")])
def test_bf16_is_taken_where_it_pays(bf16, best, monkeypatch):
    monkeypatch.setattr(
        precision,
        "matmul_peak",
        lambda device, dtype, size: bf16 if dtype is torch.bfloat16 else 1.0,
    )
    assert best_precision() == best
    assert dtype_of("auto") == precision.PRECISIONS[best]


def test_large_products_are_not_timed_where_small_ones_are_slow(monkeypatch):
    timed = []

    def one_gigaflop(device, dtype, width, times):
        timed.append(width)
        return 2 * width**3 / 1e9

    monkeypatch.setattr(precision, "seconds_of_product", one_gigaflop)
    assert precision.matmul_peak(torch.device("cpu"), torch.bfloat16) == pytest.approx(1e9)
    assert timed == [128, 256, 512]
    timed.clear()
    precision.matmul_peak(torch.device("cpu"), torch.bfloat16, 200)
    assert timed == [128, 200]


def test_the_measurement_changes_no_draw():
    torch.manual_seed(3)
    before = torch.rand(2)
    torch.manual_seed(3)
    best_precision()
    assert torch.equal(before, torch.rand(2))


def test_a_run_keeps_the_precision_it_was_started_with(tmp_path, monkeypatch):
    config = load("mnist/vqgan", [f"run={tmp_path}"])
    assert config.train.precision == "auto"
    monkeypatch.setattr(launch, "best_precision", lambda: "bf16")
    started = with_precision(config)
    assert started.train.precision == "bf16"
    save(started, tmp_path / "config.yaml")
    monkeypatch.setattr(launch, "best_precision", lambda: "fp32")
    assert with_precision(config) == started
    asked = load("mnist/vqgan", [f"run={tmp_path}", "train.precision=fp32"])
    assert with_precision(asked) == asked


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="unknown precision 'fp16'"):
        dtype_of("fp16")


def test_a_pass_without_gradient_takes_none_from_the_next():
    """torch 2.9 keeps what autocast converted without one, and the weight then gets none."""
    layer, cpu = torch.nn.Linear(4, 4), torch.device("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad(), uncached_autocast(cpu):
            assert layer(torch.ones(2, 4)).dtype == torch.bfloat16
            assert not torch.is_autocast_cache_enabled()
        assert torch.is_autocast_cache_enabled()
        layer(torch.ones(2, 4)).float().sum().backward()
    assert (layer.weight.grad == 2).all()
    with uncached_autocast(cpu):
        assert layer(torch.ones(2, 4)).dtype == torch.float32, "as it is around"


def test_self_conditioning_in_bf16_has_the_gradients_of_fp32():
    codes, grads = torch.randint(16, (8, 4, 6), generator=draws()), []
    for is_bf16 in (False, True):
        wrapper = ours(self_cond=True, self_cond_train_prob=1.0).train()
        torch.nn.init.normal_(wrapper.to_self_cond.weight, generator=draws())
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            loss = wrapper(codes, condition=torch.arange(8) % 3, generator=draws()).loss
        loss.backward()
        grads.append({name: p.grad for name, p in wrapper.named_parameters()})
    for name, grad in grads[0].items():
        close = torch.nn.functional.cosine_similarity(grad.flatten(), grads[1][name].flatten(), 0)
        assert close > 0.9 or grad.abs().max() < 1e-6, name


def test_whether_there_is_autocast_is_marked_as_torch_marks_a_constant():
    def other(kind: str) -> bool:
        return True

    assert vars(torch.compiler.assume_constant_result(other)).items() <= vars(has_autocast).items()
