"""Decoders that are used to a generator's codes: config, training, resume, pipeline."""

import os
import signal
from pathlib import Path

import pytest
import torch

from maskgit.config.loading import parse, to_dict
from maskgit.config.presets import Preset, save_preset
from maskgit.data.tokenization import tokenize_dataset
from maskgit.editing.operations import KEEP_ROUND
from maskgit.pipeline.pipeline import Pipeline
from maskgit.samplers.ordered import ORDER_ROUND
from maskgit.training.checkpoints import load_latest
from maskgit.training.launch import make_accelerator
from maskgit.training.metrics_log import read_metrics
from maskgit.training.tasks.decoder import HOLES, DecoderTask
from maskgit.training.trainer import Stopped, Training, train
from tests.training.conftest import changed
from vqgan.weights import content_hash


@pytest.fixture
def decoder_config(tiny_configs, tmp_path):
    """Of a generator that is trained for a few steps."""
    vqgan, generator = tiny_configs
    train(changed(vqgan, train={"steps": 2}))
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    values = {"task": "decoder", "run": str(tmp_path / "decoder"), "generator": generator.run}
    return parse(values | {"train": to_dict(generator)["train"]}, "decoder")


def hashes(folder):
    return {n: content_hash(folder / f"{n}.safetensors", kind) for n, kind in
            (("model", "maskgit"), ("tokenizer", "tokenizer"))}  # fmt: skip


def test_only_the_decoder_learns_and_codes_mean_what_they_did(decoder_config):
    before = Pipeline.from_pretrained(decoder_config.generator)
    folder = train(decoder_config)
    assert folder == Path(decoder_config.run) / "pipeline"
    after = Pipeline.from_pretrained(decoder_config.run)
    old, new = before.tokenizer.state_dict(), after.tokenizer.state_dict()
    moved = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert moved == {"decoder"}
    of_generator = Path(decoder_config.generator) / "pipeline"
    assert hashes(folder)["model"] == hashes(of_generator)["model"]
    assert after.sampler == before.sampler and after.guidance == before.guidance
    codes = [list(pipeline.rounds([0, 1], [3, 4]))[-1] for pipeline in (before, after)]
    assert torch.equal(*codes), "the same seed draws the same codes"
    rows = read_metrics(Path(decoder_config.run) / "metrics.jsonl")
    assert [row["step"] for row in rows if "redrawn_loss" in row] == [3, 6]


def test_presets_found_with_the_other_decoder_stay_behind(decoder_config):
    save_preset(Path(decoder_config.generator) / "pipeline", "four", Preset())
    assert "four" in Pipeline.from_pretrained(decoder_config.generator).presets
    train(changed(decoder_config, train={"steps": 1}))
    assert not Pipeline.from_pretrained(decoder_config.run).presets


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("batch, step", [(2, 2), (4, 3)], ids=["update", "evaluate"])
def test_a_signal_in_a_step_ends_the_run_when_the_step_is_saved(
    decoder_config, monkeypatch, batch, step
):
    """It comes before codes are drawn anew; the fourth batch is the first that is evaluated."""
    whole, cut = train(decoder_config), changed(decoder_config, run=decoder_config.run + "-cut")
    real, calls = DecoderTask.redrawn, []

    def signalled(task, *given):
        calls.append(given)
        if len(calls) == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(task, *given)

    with monkeypatch.context() as patch:
        patch.setattr(DecoderTask, "redrawn", signalled)
        with pytest.raises(Stopped, match=f"stopped by SIGTERM at step {step};"):
            train(cut)
    assert load_latest(Path(cut.run)).step == step
    assert hashes(train(cut)) == hashes(whole)


def test_holes_have_a_stream_of_their_own():
    """No round of a sampler (2^16 at most), no order of one, no edit's."""
    assert HOLES > 2**16 and HOLES not in (ORDER_ROUND, KEEP_ROUND)


def test_training_in_parts_and_resuming_give_the_same_decoder(decoder_config, monkeypatch):
    config = changed(decoder_config, train={"accumulate": 2})
    whole = train(config)
    cut = changed(config, run=config.run + "-cut")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "stop_signal", lambda self: 15 * (self.step == 3))
        with pytest.raises(Stopped):
            train(cut)
    assert hashes(train(cut)) == hashes(whole)
    other = changed(config, run=config.run + "-on", init_from=config.run, train={"steps": 1})
    assert hashes(train(other)) != hashes(whole)


def test_a_share_of_the_codes_is_drawn_anew(decoder_config, tmp_path):
    """None of them with a share of 0; on average half of the largest share, of what is hidden."""
    images = torch.rand(200, 1, 16, 16) * 2 - 1
    labels, seeds = torch.arange(200) % 2, list(range(200))
    shares = []
    for share in (0.0, 1.0):
        config = changed(decoder_config, loss={"share": share, "rounds": 1})
        task = DecoderTask(config, make_accelerator(config.train, tmp_path))
        codes = task.tokenizer.encode(images)
        found = task.redrawn(images, labels, seeds)
        assert found.min() >= 0 and found.max() < task.tokenizer.codebook_size
        shares.append((found != codes).double().mean().item())
        assert torch.equal(task.redrawn(images, labels, seeds), found)
    assert shares[0] == 0 and 0.3 < shares[1] < 0.52


def test_it_does_not_go_on_with_another_generator(decoder_config):
    train(changed(decoder_config, train={"steps": 2}))
    folder = Path(decoder_config.generator) / "pipeline"
    pipeline = Pipeline.from_pretrained(folder)
    with torch.no_grad():
        next(pipeline.model.parameters()).mul_(2)
    pipeline.save_pretrained(folder)
    with pytest.raises(ValueError, match="was trained with generator .*, not with generator"):
        train(decoder_config)
