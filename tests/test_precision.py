import pytest
import torch

from maskgit import precision
from maskgit.config.loading import load, save
from maskgit.precision import best_precision, dtype_of
from maskgit.training import launch
from maskgit.training.launch import with_precision


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
    assert config.train.mixed_precision == "auto"
    monkeypatch.setattr(launch, "best_precision", lambda: "bf16")
    started = with_precision(config)
    assert started.train.mixed_precision == "bf16"
    save(started, tmp_path / "config.yaml")
    monkeypatch.setattr(launch, "best_precision", lambda: "fp32")
    assert with_precision(config) == started
    asked = load("mnist/vqgan", [f"run={tmp_path}", "train.mixed_precision=no"])
    assert with_precision(asked) == asked


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="unknown precision 'fp16'"):
        dtype_of("fp16")
