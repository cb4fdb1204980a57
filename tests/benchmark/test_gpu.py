"""The same parts at a tiny scale, on a CPU."""

import json

import pytest
import torch

from maskgit.benchmark import gpu
from maskgit.benchmark.device import Scale
from maskgit.benchmark.gpu import run_gpu

TINY = Scale(
    nets={
        "tiny": {"dim": 16, "depth": 1, "heads": 1},
        "small": {"dim": 32, "depth": 2, "heads": 1},
    },
    side=4,
    batch=2,
    most=4,
    samples=(1, 2),
    rounds=(2, 3),
    image_size=16,
    tokenizer={"widths": [8, 8], "num_blocks": 0, "latent_dim": 4},
    images=4,
    turns=1,
    longest=300.0,
)


@pytest.fixture
def quick(monkeypatch, tiny_sides):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work, mode=None: real(work, backend="eager"))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)


def test_every_part_has_its_rows_and_is_written_down(quick, tmp_path):
    text = run_gpu(tmp_path, TINY)
    rows = json.loads((tmp_path / "gpu.json").read_text())["found"]["rows"]
    assert not [row for row in rows if "failed" in row]
    trained = [row for row in rows if row["part"] == "training"]
    assert [(row["net"], row["how"], row["batch"]) for row in trained] == [
        ("tiny", "eager", 2),
        ("small", "eager", 2),
        ("small", "eager", 4),
        ("small", "compiled", 4),
        ("small", "compiled", 2),
    ]
    assert all(row["share of peak"] > 0 and row["thousand tokens/s"] > 0 for row in trained)
    sampled = [row for row in rows if row["part"] == "sampling"]
    assert len(sampled) == 2 * (1 + 2 + 1 + 1 + 1)
    kinds = [(row["what"], row["how"]) for row in rows if row["part"] == "tokenizing"]
    ways = [(what, how) for how in ("fp32", "bf16") for what in ("encode", "decode")]
    assert kinds == [("training", "bf16"), *ways, ("decode", "bf16, compiled")]
    sides = {row["side"]: row for row in rows if row["part"] == "peers"}
    assert sides["maskgit"]["training over ours"] == 1 and len(sides) > 1
    assert "**sampling**" in text and (tmp_path / "gpu.png").stat().st_size > 5000


def test_what_there_is_no_time_for_is_said(quick, tmp_path, capsys):
    run_gpu(tmp_path, Scale(**{**TINY.__dict__, "longest": -1.0}))
    said = capsys.readouterr().err
    for part in ("sampling, eager", "tokenizing, training", "training, tiny", "peers, maskgit"):
        assert f"{part}" in said and "left out" in said


def test_a_part_that_fails_leaves_the_others_their_turn(quick, tmp_path, monkeypatch):
    def broken(bench):
        raise RuntimeError("no such kernel\nat all")
        yield

    monkeypatch.setattr(gpu, "PARTS", (broken, gpu.waiting, gpu.peers))
    text = run_gpu(tmp_path, TINY)
    assert "no such kernel" in text and "maskgit" in text


def test_a_cpu_is_no_accelerator(tmp_path):
    with pytest.raises(ValueError, match="no accelerator"):
        run_gpu(tmp_path)
