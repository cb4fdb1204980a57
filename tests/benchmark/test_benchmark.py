import json
import math
from functools import partial

import pytest
import torch

from maskgit import precision
from maskgit.benchmark import (
    against_peers,
    fair,
    inputs,
    parts,
    peers,
    quality,
    settings,
    speed,
    timing,
    tokenizers,
)
from maskgit.benchmark.parts import PARTS
from maskgit.benchmark.peers import SIDES, Entry, Shape, Side, Way
from maskgit.benchmark.plain import CELLS, CODES, PlainPipeline, PlainVQVAE
from maskgit.benchmark.plan import Plan
from maskgit.cli import main
from maskgit.config.loading import load
from maskgit.data.tokenization import tokenize_dataset
from maskgit.evaluation.features import load_features
from maskgit.model.backbones import num_parameters
from maskgit.training.trainer import train

# the peers' own imports and code warn on these versions; ours may not
pytestmark = pytest.mark.filterwarnings("ignore")
CPU = torch.device("cpu")


@pytest.fixture
def tiny_sides(monkeypatch):
    """All sides at 0.3 million parameters of width 64."""
    monkeypatch.setitem(peers.WIDTHS, 5, 64)
    monkeypatch.setattr(peers, "depth_for", lambda entry, setting: 1)
    return Shape(cells=16, params=5, batch=2, rounds=2)


@pytest.mark.parametrize("name", SIDES)
def test_contract_of_every_side(name, tiny_sides):
    """It trains, so that its parameters change, it samples, in both precisions, and its loss is
    positive."""
    for way in SIDES[name].ways_on(CPU):
        side = Side(SIDES[name], tiny_sides, way, CPU)
        assert 0 < side.loss().item() < 20
        before = [p.clone() for p in side.module.parameters()]
        side.train_step()
        assert any(
            not torch.equal(a, b) for a, b in zip(before, side.module.parameters(), strict=True)
        )
        side.sample_batch()


@pytest.mark.slow
@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("params", [5, 25])
def test_sides_are_of_equal_size(name, params):
    """Within 15 % of the wanted number of parameters."""
    side = Side(SIDES[name], Shape(cells=64, params=params, batch=1), Way(False, True), CPU)
    assert num_parameters(side.module) == pytest.approx(params * 1e6, rel=0.15)


def test_alternating_turns_and_their_ratios():
    order = []
    found = timing.alternate(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, seconds=0, least=3
    )
    assert order == ["a", "b"] * 4 and len(found["a"]) == len(found["b"]) == 3
    spread = timing.ratios({"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]}, "b")["a"]
    assert spread == (1.0, 0.5, 2.0) and str(spread) == "1 (0.5 to 2)"


def test_operations_and_peak_memory_of_a_matrix_product():
    a = torch.randn(64, 128)
    assert timing.operations(lambda: a @ a.T) == 2 * 64 * 64 * 128
    assert timing.peak_bytes(lambda: [torch.empty(1_000_000) for _ in range(2)]) == pytest.approx(
        8e6, rel=0.01
    )
    assert timing.peak_bytes(
        lambda: [torch.empty(1_000_000).sum() for _ in range(2)]
    ) == pytest.approx(4e6, rel=0.01)
    assert precision.matmul_peak(CPU, torch.float32, 256) > 1e8


def test_a_run_writes_tables_json_and_a_picture(tiny_sides, tmp_path, monkeypatch):
    plan = Plan(cells=(16,), params=(5,), batch=(2,), rounds=(2,), seconds=0.0)
    monkeypatch.setattr(parts, "matmul_peak", lambda *_: 1e9)
    text = speed.run_benchmark(["training", "sampling"], plan, tmp_path)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["found"]["rows"]
    assert {row["side"] for row in rows if row["part"] == "sampling"} == set(SIDES)
    ours = next(row for row in rows if row["part"] == "training" and row["side"] == "maskgit")
    assert (
        ours["time over ours"]["median"] == 1
        and ours["share of peak"] > 0
        and ours["peak memory MiB"] > 0
    )
    assert ours["tokens/s"]["low"] <= ours["tokens/s"]["median"] <= ours["tokens/s"]["high"]
    assert "**sampling**" in text and (tmp_path / "benchmark.png").stat().st_size > 5000
    assert (tmp_path / "benchmark.md").read_text() in text + "\n"


def test_pieces_in_one_folder_stand_side_by_side(tmp_path, monkeypatch):
    def part(plan):
        for batch in plan.batch:
            sizes = {"part": "training", "cells": 16, "million parameters": 5, "batch": batch}
            for side in ("maskgit", "theirs") if plan.longest else ("all",):
                yield {
                    **sizes,
                    "side": side,
                    "time over ours": timing.Spread(1.0, 0.5, plan.seconds),
                }

    monkeypatch.setitem(PARTS, "training", part)
    monkeypatch.setattr(
        speed,
        "machine",
        lambda plan: [{"part": "machine", "side": "fp32", "GFLOP/s": plan.seconds}],
    )

    def found(**plan):
        speed.run_benchmark(["training"], Plan(**{"batch": (2,), **plan}), tmp_path)
        rows = json.loads((tmp_path / "benchmark.json").read_text())["found"]["rows"]
        return [
            (row.get("batch"), row["side"], row.get("time over ours", {}).get("high"))
            for row in rows
        ][1:]

    two = [(2, "maskgit", 8.0), (2, "theirs", 8.0)]
    assert found() == two
    assert found(batch=(1,), seconds=9.0) == [(1, "maskgit", 9.0), (1, "theirs", 9.0), *two]
    assert found(batch=(2, 3), longest=0.0)[2:] == [*two, (3, "all", 8.0)], (
        "what is left out now was measured before"
    )
    assert found(batch=(3, 1))[:2] == [(1, "maskgit", 8.0), (1, "theirs", 8.0)], "the newest counts"
    assert found()[4:] == [(3, "maskgit", 8.0), (3, "theirs", 8.0)]
    monkeypatch.setattr(speed, "versions", lambda: {"torch": "another"})
    assert found() == two, "of other versions nothing is kept"


@pytest.mark.parametrize("at", ["the start", "the whole shape"])
def test_a_side_that_cannot_run_is_said_so(at, tiny_sides, monkeypatch):
    def broken(setting, depth):
        if at == "the start" or setting.shape.batch > 1:
            raise ImportError("no module named muse")
        return SIDES["x-transformers"].build(setting, depth)

    monkeypatch.setattr(against_peers, "TRIAL", 1)  # trials have a batch of one
    monkeypatch.setitem(SIDES, "muse-maskgit-pytorch", Entry(broken))
    plan = Plan(cells=(16,), params=(5,), batch=(2,), rounds=(2,), seconds=0.0, memory=False)
    rows = list(PARTS["sampling"](plan))
    assert [row["why not"] for row in rows if "why not" in row] == [
        "ImportError: no module named muse"
    ]
    assert len(rows) == len(SIDES)


def test_what_would_take_too_long_is_left_out_and_said_so(tiny_sides):
    plan = Plan(cells=(16,), params=(5,), batch=(2, 4), rounds=(2,), longest=0.01)
    rows = list(PARTS["sampling"](plan))
    assert len(rows) == 2 and all("left out" in row["why not"] for row in rows)


def test_operations_count_fused_attention(tiny_sides):
    """The products of two matrices of 16 x 64 for each of 2 images and 1 head, and the same again
    with the values."""
    q = torch.randn(2, 1, 16, 64)
    counted = timing.operations(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert counted == 2 * 2 * (2 * 16 * 16 * 64)


@pytest.mark.slow
@pytest.mark.parametrize("part", [name for name in PARTS if name not in ("training", "sampling")])
def test_parts_without_peers(part, tiny_sides, monkeypatch):
    for place in (parts, inputs):
        monkeypatch.setattr(place, "NUM_PICTURES", 64)
    rows = list(PARTS[part](Plan(cells=(64,), params=(5,), batch=(2,), seconds=0.0)))
    assert len(rows) >= 2
    for row in rows:
        speed = next(value for key, value in row.items() if key.endswith("/s"))
        assert 0 < speed.low <= speed.median <= speed.high < math.inf


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


def test_the_classifier_of_a_perceptual_loss_is_trained_first_and_is_not_the_judge(
    tmp_path, monkeypatch
):
    trained = []
    monkeypatch.setattr(fair, "train", trained.append)
    [override] = fair.with_perceptual("fashion_mnist", tmp_path / "seen")
    [config] = trained
    assert (
        config.run == str(tmp_path / "seen")
        and config.seed != load("fashion_mnist/classifier").seed
    )
    assert load("fashion_mnist/vqgan", [override]).loss.perceptual["weights"] == config.run
    assert fair.with_perceptual("mnist", tmp_path / "seen") == [] and len(trained) == 1


@pytest.mark.slow
def test_quality_end_to_end(tmp_path, monkeypatch, capfd):
    """Seconds of training on digits: both lines are written, with their grids and times."""
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(quality, "CALIBRATION", 30)
    monkeypatch.setattr(quality, "CHOICES", quality.CHOICES[:2])
    monkeypatch.setattr(quality, "OUR_CHOICES", ({}, {"guidance": 1.0}))
    few = ["train.max_eval_images=100"]
    small = {
        "classifier": ["train.steps=20", *few], "vqgan": ["model.widths=[8,8]", *few],
        "maskgit": ["model.dim=16", "model.depth=1", "sampler.steps=2", *few],
    }  # fmt: skip
    monkeypatch.setattr(quality, "OVERRIDES", small)
    text = quality.run_quality([0.03, 0.03], 60, tmp_path / "out", data="mnist")
    found = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert set(found["lines"]) == {"ours", "plain"} and found["lines"]["plain"]["fid"]["value"] > 0
    assert found["seconds"]["plain: generator"] == pytest.approx(
        found["seconds"]["ours: generator"], abs=5
    )
    for name in ("ours.png", "plain.png", "ours/neighbours.png", "plain/samples.png"):
        assert (tmp_path / "out" / name).is_file()
    assert "| real images |" in text and "sampler of ours: " in text
    again = partial(quality.run_quality, [0.03, 0.03], 60, tmp_path / "out", data="mnist")
    for name in (
        "train_ours",
        "train_plain",
        "draw_ours",
    ):  # run again, what is there is not made anew
        monkeypatch.setattr(quality, name, lambda *args: pytest.fail("what is there is made again"))
    with monkeypatch.context() as patch:
        patch.setattr(
            quality, "draw_plain", lambda *args: pytest.fail("what is there is made again")
        )
        assert again().splitlines()[:5] == text.splitlines()[:5]
    monkeypatch.setattr(
        quality, "CHOICES", quality.CHOICES[:1]
    )  # now the plain side is drawn, with its kept weights
    again()
    only = json.loads((tmp_path / "out" / "quality.json").read_text())["lines"]["plain"]["sampler"]
    tried = only.partition(": ")[2].rstrip(")")
    assert tried and tried in found["lines"]["plain"]["sampler"]


def test_settings_end_to_end_and_again(tmp_path, monkeypatch):
    """Settings are trained and measured; run again, nothing is trained or measured any more."""
    chosen = {name: settings.SETTINGS[name] for name in ("plain", *settings.WITH_CRITIC)}
    monkeypatch.setattr(settings, "SETTINGS", chosen)
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    few = [
        "train.steps=4",
        "train.max_eval_images=50",
        "train.mixed_precision=no",
        "train.trackers=[]",
    ]
    out = tmp_path / "out"
    train(load("mnist/vqgan", [f"run={out}/vqgan", "model.widths=[8,8]", *few]))
    tokenize_dataset(out / "vqgan", out / "codes")
    train(load("mnist/classifier", [f"run={out}/classifier", *few]))
    small = (
        "model.dim=16",
        "model.depth=1",
        "model.heads=2",
        "model.dim_head=8",
        "sampler.steps=2",
        *few[1:],
    )
    place = settings.Place("mnist", out, small)
    monkeypatch.setattr(settings, "NOISES", (1.0, 4.0))
    text = settings.compare(place, 0.002, 1, 20)
    lines = json.loads((out / "settings.json").read_text())["lines"]
    assert set(lines) == {*settings.SETTINGS, "self-critic, not asked", "token-critic, not asked"}
    assert all(
        len(found) == 1 and found[0]["bits_per_code"]["value"] > 0 for found in lines.values()
    )
    assert lines["token-critic"][0]["sampler"]["name"] == "critic"
    assert lines["token-critic, not asked"][0]["sampler"]["name"] == "confidence"
    assert (out / "settings.png").is_file() and "| real images |" in text
    monkeypatch.setattr(settings, "measured", None)
    assert settings.compare(place, 0.002, 1, 20) == text


@pytest.mark.slow
def test_tokenizers_end_to_end_and_again(tmp_path, monkeypatch):
    """Lines are trained and measured; run again, nothing is trained or measured any more."""
    monkeypatch.setattr(
        tokenizers, "QUANTIZERS", {k: tokenizers.QUANTIZERS[k] for k in ("fsq", "rvq")}
    )
    monkeypatch.setattr(
        tokenizers, "LOSSES", {k: tokenizers.LOSSES[k] for k in ("perceptual", "perceptual + GAN")}
    )
    monkeypatch.setenv("MASKGIT_CACHE", str(tmp_path / "cache"))
    few = ["train.max_eval_images=20", "train.mixed_precision=no", "train.trackers=[]"]
    train(load("mnist/classifier", [f"run={tmp_path}/classifier", "train.steps=4", *few]))
    network = load_features("classifier", tmp_path / "classifier")
    place = tokenizers.Place(
        "mnist", tmp_path / "out", tmp_path / "classifier", ("model.widths=[8,8]", *few)
    )
    text = tokenizers.compare(place, network, 0.5, 1, 40, [])
    lines = json.loads((tmp_path / "out" / "tokenizers.json").read_text())["lines"]
    assert list(lines) == [*tokenizers.lines_of(), "plain"] and "fsq + perceptual + GAN" in lines
    for [found] in lines.values():
        assert found["rfid"]["value"] > 0 and found["psnr"]["value"] > 0 and found["steps"] >= 1
    assert (tmp_path / "out" / "tokenizers.png").stat().st_size > 5000
    monkeypatch.setattr(tokenizers, "measure_tokenizer", None)
    assert tokenizers.compare(place, network, 0.5, 1, 40, []) == text
    assert tokenizers.compare(place, network, 0.5, 1, 40, ["fsq"]) == text, (
        "one line leaves the others in the table"
    )


def test_lines_of_the_tokenizer_table_are_configs_that_differ(tmp_path):
    for data in tokenizers.DATA:
        place = tokenizers.Place(data, tmp_path, tmp_path / "weights")
        found = [
            str(place.config(line, 0, 30).model_dump(exclude={"run"}))
            for line in tokenizers.lines_of()
        ]
        assert len(set(found)) == len(found)
        gan = place.config("fsq + GAN", 0, 30).loss.adversarial
        assert gan.start_step == 30 and place.config("fsq + perceptual").loss.adversarial is None


def test_every_setting_is_a_config_that_differs(tmp_path):
    found = {}
    for name, stages in settings.SETTINGS.items():
        configs = [
            settings.Place("fashion_mnist", tmp_path).config(stage, name, 0) for stage in stages
        ]
        found[name] = str([config.model_dump(exclude={"run", "generator"}) for config in configs])
    assert len(set(found.values())) == len(settings.SETTINGS)


WRONG = {
    ("tokenizers", "--data", "cifar"): "unknown data set of the tokenizer benchmark 'cifar'",
    (
        "tokenizers",
        "--only",
        "fsqq",
    ): "unknown line of the tokenizer benchmark 'fsqq', did you mean 'fsq'",
    ("speeed",): "unknown benchmark 'speeed', did you mean 'speed'",
    ("--only", "samplng"): "unknown part 'samplng', did you mean 'sampling'",
    ("--cells", "a"): "'a' should be one or more positive numbers",
    ("quality", "--minutes", "5"): "'5' should be 2 positive numbers",
    ("--cells", "50"): "50 cells are no square grid",
    ("--params", "7"): "7 million parameters: 5 or 25",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_mistake_is_one_clear_line(arguments, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["benchmark", *arguments])
    assert end.value.code == 2 and WRONG[arguments] in capfd.readouterr().err
