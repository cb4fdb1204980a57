import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskgit.evaluation import tokenizer as reconstruction
from maskgit.evaluation.request import Evaluation, tokenizer_request
from maskgit.evaluation.tokenizer import PIXEL_METRICS, evaluate_tokenizer, use_of_codes
from maskgit.training.trainer import train
from tests.conftest import by_processes, cli
from vqgan.classifier import Classifier


@pytest.fixture
def run(tiny_configs, tmp_path, monkeypatch):
    """A tokenizer, trained for a few steps, with a classifier beside it."""
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    train(tiny_configs[0])
    torch.manual_seed(0)
    judge = Classifier(channels=1, num_classes=2, width=8)
    judge.save(tmp_path / "classifier" / "classifier.safetensors", {"class_names": ["bag", "coat"]})
    return Path(tiny_configs[0].run)


def numbers(folder):
    return json.loads((folder / "results.json").read_text())["numbers"]


def test_a_tokenizer_is_measured_on_held_out_images(run, capfd):
    assert cli("evaluate", run) == 0
    out = capfd.readouterr().out
    found = numbers(run / "evaluation")
    assert set(found) == {"psnr", "ssim", "rfid", "codes_used", "perplexity", "dead_codes"}
    assert all(name in out for name in found) and "folder" in out and "8" in out
    assert 0 < found["codes_used"]["value"] <= 1 <= found["perplexity"]["value"] <= 16
    assert found["dead_codes"]["value"] == pytest.approx(16 * (1 - found["codes_used"]["value"]))
    for name in ("results.md", "reconstructions.png", "codes.png"):
        assert (run / "evaluation" / name).stat().st_size > 100


@pytest.mark.slow
def test_two_processes_measure_what_one_does(run):
    options = ["--batch-size", "3", "--out"]
    assert cli("evaluate", run, *options, run / "one") == 0
    by_processes(2, "scripts/evaluate.py", run, *options, run / "two")
    one, two = (numbers(run / name) for name in ("one", "two"))
    assert one.keys() == two.keys() and {"rfid", "dead_codes"} <= one.keys()
    for key in one:
        assert one[key]["value"] == pytest.approx(two[key]["value"], rel=1e-4), key


def test_a_few_metrics_of_a_few_images(run):
    assert cli("evaluate", run, "--metrics", "psnr,codes", "--count", 4, "--out", run / "few") == 0
    assert set(numbers(run / "few")) == {"psnr", "codes_used", "perplexity", "dead_codes"}


def test_rfid_in_several_kinds_of_features(run):
    """Each is what the network alone gives; the first one's name stays plain."""
    torch.manual_seed(7)
    witness = Classifier(channels=1, num_classes=2, width=16)
    witness.save(run.parent / "witness" / "classifier.safetensors", {})
    found = {}
    for features in ("classifier", "witness", "classifier,witness"):
        options = ("--metrics", "rfid", "--features", features, "--out", run / features)
        assert cli("evaluate", run, *options) == 0
        found[features] = numbers(run / features)
    both = found["classifier,witness"]
    assert both["rfid"] == found["classifier"]["rfid"] != found["witness"]["rfid"]
    assert both["rfid_witness"] == found["witness"]["rfid"] and len(both) == 2


def test_without_a_network_rfid_is_left_out_and_said_so(run, capfd):
    (run.parent / "classifier" / "classifier.safetensors").unlink()
    assert cli("evaluate", run) == 0
    assert "left out: rfid: needs a feature network (--features)" in capfd.readouterr().out
    assert cli("evaluate", run, "--metrics", "rfid") == 2
    assert "rfid: needs a feature network" in capfd.readouterr().err


WRONG = {
    "unknown metric of a tokenizer 'fid', did you mean 'rfid'": ("--metrics", "fid"),
    "is a tokenizer: it draws nothing": ("--steps", "4"),
}


@pytest.mark.parametrize(
    "asked",
    [{"seed": 0}, {"samples": Path("x")}, {"options": {"steps": 4}}],
    ids=str,
)
def test_what_only_a_generator_does_is_not_asked_of_a_tokenizer(asked):
    with pytest.raises(
        ValueError, match="run is a tokenizer: it draws nothing, so no sampler or seed"
    ):
        tokenizer_request(Evaluation(run=Path("run"), **asked))


@pytest.mark.parametrize(
    ("asked", "option"),
    [({"judge": Path("x")}, "--judge"), ({"split": "validation"}, "--split"), ({"precision": "bf16"}, "--precision")],
)  # fmt: skip
def test_an_option_that_does_not_apply_is_refused_not_ignored(asked, option):
    with pytest.raises(ValueError, match=f"{option} does not apply"):
        tokenizer_request(Evaluation(run=Path("run"), **asked))


def test_results_are_returned_and_nothing_is_written(run):
    before = sorted(run.rglob("*"))
    asked = tokenizer_request(Evaluation(run=run, count=4, metrics=("psnr",), pictures=False))
    found = evaluate_tokenizer(asked)
    assert (
        sorted(run.rglob("*")) == before
        and list(found.numbers) == ["psnr"]
        and found.pictures == {}
    )
    assert list(evaluate_tokenizer(replace(asked, pictures=True)).pictures) == [
        "reconstructions.png",
        "codes.png",
    ]


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_is_one_clear_line(message, run, capfd):
    assert cli("evaluate", run, *WRONG[message]) == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error and not (run / "evaluation").exists()


@pytest.fixture
def squeeze(tmp_path, monkeypatch):
    """LPIPS with an untrained SqueezeNet for a backbone, where torchvision would have put the
    file."""
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = (
        tmp_path
        / "torch"
        / "hub"
        / "checkpoints"
        / SqueezeNet1_1_Weights.DEFAULT.url.split("/")[-1]
    )
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    monkeypatch.setattr(reconstruction, "LPIPS_NET", "squeeze")
    reconstruction.lpips_network.cache_clear()
    yield path
    reconstruction.lpips_network.cache_clear()


@pytest.mark.parametrize("name", PIXEL_METRICS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_metric_is_of_each_image_and_worse_with_noise(name, channels, squeeze):
    images = torch.rand(3, channels, 20, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    metric = PIXEL_METRICS[name]
    found = [
        metric.compute((images + scale * noise).clamp(-1, 1), images) for scale in (0.0, 0.1, 0.4)
    ]
    if metric.better == "lower":
        found = [-values for values in found]
    assert found[0].shape == (3,) and (found[0] > found[1]).all() and (found[1] > found[2]).all()
    alone = metric.compute(images[:1] + 0.1, images[:1])
    assert torch.allclose(alone, metric.compute(images + 0.1, images)[:1], atol=1e-5)


def test_lpips_is_zero_for_equal_images_only_and_trains(squeeze):
    from vqgan.perceptual import LPIPS

    loss = LPIPS(net="squeeze")
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    moved = (images + 0.1).requires_grad_()
    assert (
        loss(images, images).item() == pytest.approx(0.0, abs=1e-6) and loss(moved, images) > 1e-4
    )
    loss(moved, images).backward()
    assert moved.grad.abs().sum() > 0


def test_lpips_is_measured_where_its_backbone_is_and_downloaded_only_if_named(run, squeeze, capfd):
    assert cli("evaluate", run, "--out", run / "with") == 0
    assert numbers(run / "with")["lpips"]["value"] > 0
    squeeze.unlink()
    reconstruction.lpips_network.cache_clear()
    assert cli("evaluate", run, "--out", run / "without") == 0
    assert "left out: lpips" in capfd.readouterr().out and "lpips" not in numbers(run / "without")
    assert cli("evaluate", run, "--metrics", "lpips") == 2  # there is no network in tests
    assert "cannot download torchvision's backbone of LPIPS" in capfd.readouterr().err


def test_closed_values():
    zero = torch.zeros(2, 1, 16, 16)
    # 10 log10(4 / .04)
    assert PIXEL_METRICS["psnr"].compute(zero + 0.2, zero).tolist() == pytest.approx(
        [20.0, 20.0], abs=1e-3
    )
    # of two flat images of intensities a, b in [0, 1]: (2 a b + C1) / (a^2 + b^2 + C1), C1 = 0.01^2
    expected = (2 * 0.75 * 0.65 + 0.0001) / (0.75**2 + 0.65**2 + 0.0001)
    assert PIXEL_METRICS["ssim"].compute(zero + 0.5, zero + 0.3).tolist() == pytest.approx(
        [expected] * 2, rel=1e-4
    )


def test_little_use_of_the_codes_is_warned_of(capfd):
    use_of_codes(torch.tensor([[20, 0, 0, 0, 5, 0]]), "take fewer codes")
    assert "only 33% of the codes are used: take fewer codes" in capfd.readouterr().err
    use_of_codes(torch.tensor([[10, 0, 0, 0, 5, 0]]), "take fewer codes")
    assert capfd.readouterr().err == "", "so few cells say nothing"
