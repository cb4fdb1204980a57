import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from maskgit.config.loading import save, to_dict
from maskgit.data.tokenization import tokenize_dataset
from maskgit.pipeline.pipeline import Pipeline
from maskgit.processes import held
from maskgit.training import meter
from maskgit.training.checkpoints import checkpoints, load_latest
from maskgit.training.metrics_log import read_metrics
from maskgit.training.tasks import TASKS
from maskgit.training.trainer import Stopped, train
from tests.conftest import launched
from tests.training.conftest import changed
from vqgan.tokenizer import Tokenizer


def test_both_stages_end_with_what_they_promise(tiny_configs, monkeypatch):
    vqgan, generator = tiny_configs
    assert train(vqgan) == Path(vqgan.run) / "tokenizer.safetensors"
    tokenize_dataset(vqgan.run, generator.codes)
    monkeypatch.setattr(Tokenizer, "encode", None)  # the second stage never runs the encoder
    train(generator)
    for config in tiny_configs:
        run = Path(config.run)
        rows = read_metrics(run / "metrics.jsonl")
        assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6]
        assert all(
            key in next(r for r in rows if "loss" in r)
            for key in ("learning_rate", "gradient_norm")
        )
        assert [p.name for p in (run / "previews").iterdir()] == ["step_00000006.png"]
        assert [p.name for p in checkpoints(run)] == ["step_00000004", "step_00000006"]
        assert (run / "config.yaml").is_file()
    assert [
        row["step"] for row in read_metrics(Path(vqgan.run) / "metrics.jsonl") if "psnr" in row
    ] == [3, 6]
    images = Pipeline.from_pretrained(generator.run).generate([0, 1], [0, 1])
    assert [image.size for image in images] == [(16, 16)] * 2


def test_the_config_is_in_the_weights(tiny_configs):
    from vqgan.weights import load_weights

    config, _ = load_weights(train(tiny_configs[0]), "tokenizer")
    assert config["run"] == to_dict(tiny_configs[0])


def test_run_again_it_says_that_it_is_done(tiny_configs, capsys):
    train(tiny_configs[0])
    capsys.readouterr()
    train(tiny_configs[0])
    assert "is trained to step 6 already" in capsys.readouterr().err


def test_a_run_goes_on_to_more_steps_but_not_with_another_model(tiny_configs):
    vqgan = tiny_configs[0]
    train(vqgan)
    train(changed(vqgan, train={"steps": 8}))
    assert load_latest(Path(vqgan.run)).step == 8
    with pytest.raises(
        ValueError, match=r"started with another config \(model.widths: \[8, 8\] -> \[8, 16\]\)"
    ):
        train(changed(vqgan, model={"widths": [8, 16]}))


def test_a_signal_while_the_last_step_is_evaluated_is_not_lost(tiny_configs, monkeypatch):
    """What trains one model after another would go on with the next."""
    kind = TASKS["tokenizer"]
    monkeypatch.setattr(kind, "preview", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="stopped by SIGTERM at step 6"):
        train(tiny_configs[0])
    assert load_latest(Path(tiny_configs[0].run)).step == 6


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_ends_an_evaluation_early_and_its_step_is_saved(tiny_configs, monkeypatch, number):
    kind, run = TASKS["tokenizer"], Path(tiny_configs[0].run)
    real = kind.evaluate

    def interrupted(task):
        os.kill(os.getpid(), number)
        return real(task)

    monkeypatch.setattr(kind, "evaluate", interrupted)
    with pytest.raises(Stopped, match=f"stopped by {number.name} at step 3"):
        train(tiny_configs[0])
    assert load_latest(run).step == 3
    assert not any("psnr" in row for row in read_metrics(run / "metrics.jsonl"))
    monkeypatch.setattr(kind, "evaluate", real)
    train(tiny_configs[0])
    measured = [row["step"] for row in read_metrics(run / "metrics.jsonl") if "psnr" in row]
    assert measured == [3, 6], "what the signal cut short is done when the run goes on"


def test_a_run_in_use_is_refused(tiny_configs):
    run = Path(tiny_configs[0].run)
    with (
        held(run, "train"),
        pytest.raises(ValueError, match=rf"{run} is in use by train \(pid {os.getpid()} on "),
    ):
        train(tiny_configs[0])


@pytest.mark.slow
def test_both_processes_end_with_a_line_where_a_run_is_in_use(tiny_configs, tmp_path):
    run = Path(tiny_configs[0].run)
    save(tiny_configs[0], tmp_path / "c.yaml")
    with held(run, "train"):
        ends = launched(2, "train", tmp_path / "c.yaml")
    assert [status for status, _ in ends] == [2, 2]
    assert f"maskgit: {run} is in use by train" in ends[0][1]
    assert "maskgit: another process of this command is gone" in ends[1][1]
    assert all("Traceback" not in said for _, said in ends)


def test_weights_that_are_not_finite_stop_and_keep_the_last_good_checkpoint(
    tiny_configs, monkeypatch
):
    vqgan = tiny_configs[0]
    real = TASKS["tokenizer"].update

    def poisoned(task, step, parts):
        if step == 4:
            with torch.no_grad():
                task.learners["tokenizer"].module.encoder.layers[1].weight.fill_(float("inf"))
        return real(task, step, parts)

    monkeypatch.setattr(TASKS["tokenizer"], "update", poisoned)
    with pytest.raises(
        FloatingPointError,
        match=r"tokenizer.module: .* not finite at step 6, learning rate 2e-05; the last good "
        r".*step_00000004: lower train.learning_rate",
    ):
        train(vqgan)
    found = load_latest(Path(vqgan.run))
    assert all(v.isfinite().all() for v in found.tensors["tokenizer.module"].values())
    monkeypatch.setattr(TASKS["tokenizer"], "update", real)
    train(changed(vqgan, train={"learning_rate": 1e-4, "clip_norm": 0.5}))  # as it advises
    assert load_latest(Path(vqgan.run)).step == 6


def test_the_previews_and_scalars_reach_tensorboard(tiny_configs):
    config = changed(tiny_configs[0], train={"trackers": ["tensorboard"]})
    train(config)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(
        str(Path(config.run) / "logs" / "maskgit"), {"images": 0, "scalars": 0}
    )
    events.Reload()
    assert "loss" in events.Tags()["scalars"] and "psnr" in events.Tags()["scalars"]
    assert "preview" in events.Tags()["images"]


def slowed(work, now, seconds):
    def slow(*given):
        now[0] += seconds
        return work(*given)

    return slow


@pytest.mark.parametrize("pause", ["evaluate", "preview", "exporting"])
def test_the_speed_that_is_logged_is_that_of_the_steps(tiny_configs, monkeypatch, pause):
    """Of all of them between two logs, whatever else was done there."""
    config = changed(
        tiny_configs[0],
        train={"steps": 9, "log_every": 3, "eval_every": 2, "preview_every": 2},
    )
    kind, now = TASKS["tokenizer"], [0.0]
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for name, seconds in ((pause, 1000.0), ("update", 2.0)):
        monkeypatch.setattr(kind, name, slowed(getattr(kind, name), now, seconds))
    train(config)
    rows = read_metrics(Path(config.run) / "metrics.jsonl")
    speeds = [row["images_per_second"] for row in rows if "loss" in row]
    assert speeds == pytest.approx([config.train.batch_size / 2.0] * 3)


def test_metrics_are_plain_json(tiny_configs):
    train(tiny_configs[0])
    for line in (Path(tiny_configs[0].run) / "metrics.jsonl").read_text().splitlines():
        assert all(isinstance(value, int | float) for value in json.loads(line).values())


def test_train_and_tokenise_again_change_nothing(tiny_configs, capsys):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    (Path(vqgan.run) / "tokenizer.safetensors").unlink()
    # exported again, with another config in its metadata
    train(changed(vqgan, train={"log_every": 3}))
    capsys.readouterr()
    tokenize_dataset(vqgan.run, generator.codes)
    assert "tokenised already" in capsys.readouterr().err
    train(generator)


def test_a_start_that_failed_leaves_nothing_to_be_compared_with(tiny_configs):
    vqgan = tiny_configs[0]
    with pytest.raises(FileNotFoundError, match="no folder"):
        train(changed(vqgan, data={"source": {"name": "folder", "root": "nowhere"}}))
    with pytest.raises(ValueError, match="must divide by 1 processes x accumulate=3"):
        train(changed(vqgan, train={"accumulate": 3}))
    train(vqgan)


def test_signals_are_given_back(tiny_configs):
    import signal

    before = signal.getsignal(signal.SIGTERM)
    for _ in range(2):
        train(tiny_configs[0])
    assert signal.getsignal(signal.SIGTERM) is before


def test_trainings_of_different_precision_in_one_process(tiny_configs):
    vqgan, generator = tiny_configs
    train(changed(vqgan, train={"precision": "bf16"}))
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)


def test_a_tracker_that_is_not_installed_is_named(tiny_configs):
    with pytest.raises(ValueError, match=r"train.trackers: aim: not installed"):
        train(changed(tiny_configs[0], train={"trackers": ["aim"]}))


def test_where_a_data_worker_is_killed_the_last_step_is_saved(tiny_configs, monkeypatch):
    from maskgit.data.datasets import ImageDataset

    config = changed(tiny_configs[0], train={"save_every": 100, "steps": 200, "eval_every": 1000})
    config = changed(config, data={"workers": 1})
    real, calls = ImageDataset.__getitems__, []

    def killed(self, keys):
        calls.append(1)
        if len(calls) > 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, keys)

    monkeypatch.setattr(ImageDataset, "__getitems__", killed)
    with pytest.raises(ChildProcessError, match="a data worker was killed"):
        train(config)
    assert load_latest(Path(config.run)).step > 0
