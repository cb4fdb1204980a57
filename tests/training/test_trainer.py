import json
import os
import signal
from pathlib import Path

import pytest
import torch

from maskgit.config.loading import parse, to_dict
from maskgit.data.tokenization import tokenize_dataset
from maskgit.model.transformer import Transformer
from maskgit.pipeline.pipeline import Pipeline
from maskgit.training.checkpoints import checkpoints, load_latest
from maskgit.training.learner import decayed, learning_rate_at
from maskgit.training.metrics_log import read_metrics
from maskgit.training.tasks import TASKS
from maskgit.training.trainer import Stopped, train
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


def test_shared_vectors_of_codes_with_levels_train_resume_and_draw(tiny_configs, monkeypatch):
    vqgan, generator = tiny_configs
    vqgan = changed(vqgan, model={"quantizer": {"name": "fsq", "levels": [4, 4]}})
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    pipeline = Pipeline.from_pretrained(generator.run)
    assert tuple(pipeline.net.config["code_levels"]) == (4, 4)
    assert [image.size for image in pipeline.generate([0, 1], [0, 1])] == [(16, 16)] * 2
    train(changed(generator, train={"steps": 8}))
    assert load_latest(Path(generator.run)).step == 8
    monkeypatch.setattr(Tokenizer, "code_levels", ())  # as before there were any
    with pytest.raises(
        ValueError, match="a model that this version of maskgit builds differently: set run=..."
    ):
        train(changed(generator, train={"steps": 9}))


@pytest.mark.parametrize("loss", [{"name": "patchgan", "width": 8, "num_layers": 1}])
@pytest.mark.parametrize("kind", ["hinge", "non_saturating"])
def test_a_discriminator_joins_late_and_trains(tiny_configs, loss, kind):
    adversarial = {"discriminator": loss, "loss": kind, "start_step": 3}
    config = changed(tiny_configs[0], loss={"adversarial": adversarial})
    train(config)
    rows = [row for row in read_metrics(Path(config.run) / "metrics.jsonl") if "loss" in row]
    assert ["adversarial_weight" in row for row in rows] == [False, True, True]
    train(changed(config, run=f"{config.run}-each", train={"log_every": 1}))
    each = [
        row
        for row in read_metrics(Path(f"{config.run}-each") / "metrics.jsonl")
        if "adversarial_weight" in row
    ]
    assert rows[1]["adversarial_weight"] == pytest.approx(each[0]["adversarial_weight"]), (
        "the mean of its one step"
    )
    assert all(row["discriminator_loss"] > 0 for row in rows[1:])


def test_a_discriminator_that_never_joins_is_told_of(tiny_configs, capfd):
    train(
        changed(
            tiny_configs[0], loss={"adversarial": {"discriminator": "stylegan", "start_step": 6}}
        )
    )
    assert (
        "never joins: loss.adversarial.start_step is 6, train.steps is 6" in capfd.readouterr().err
    )


def test_a_signal_while_the_last_step_is_evaluated_is_not_lost(tiny_configs, monkeypatch):
    """What trains one model after another would go on with the next."""
    kind = TASKS["tokenizer"]
    monkeypatch.setattr(kind, "preview", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="stopped by SIGTERM at step 6"):
        train(tiny_configs[0])
    assert load_latest(Path(tiny_configs[0].run)).step == 6


def test_a_discriminator_is_kept_in_bounds(tiny_configs):
    """Its weight grows from nothing; LeCam's averages, the lazy gradient penalty and augmentation
    are in the steps."""
    judge = {"name": "stylegan", "width": 8, "num_layers": 2}
    plain = {"discriminator": judge, "start_step": 1, "warmup_steps": 4, "adaptive": False}
    found = {}
    for name, more in {"plain": {}, "lecam": {"lecam": 0.1}, "r1": {"r1": 1.0, "r1_every": 2}, "augment": {"augment": True}}.items():  # fmt: skip
        config = changed(
            tiny_configs[0], run=f"{tiny_configs[0].run}-{name}", loss={"adversarial": plain | more},
            train={"log_every": 1},
        )  # fmt: skip
        train(config)
        found[name] = [
            row for row in read_metrics(Path(config.run) / "metrics.jsonl") if "loss" in row
        ]
        assert load_latest(Path(config.run)).tensors["discriminator.module"]["mean_real"] != 0
    assert [row["adversarial_weight"] for row in found["plain"][1:]] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8]
    )
    ends = {name: rows[-1]["discriminator_loss"] for name, rows in found.items()}
    assert len(set(ends.values())) == len(ends), "each of them changes the steps"


def test_accumulation_sees_the_same_images_and_almost_the_same_loss(tiny_configs):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    still = changed(generator, model={"dropout": 0.0}, loss={"condition_dropout": 0.0})
    losses = []
    for accumulate in (1, 2):
        config = changed(
            still, run=f"{generator.run}-{accumulate}", train={"accumulate": accumulate}
        )
        train(config)
        losses.append(
            [
                row["loss"]
                for row in read_metrics(Path(config.run) / "metrics.jsonl")
                if "loss" in row
            ]
        )
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
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
        match=r"not finite at step 4, learning rate 0.000\d+; the last good .*step_00000004",
    ):
        train(vqgan)
    assert all(
        v.isfinite().all()
        for v in load_latest(Path(vqgan.run)).tensors["tokenizer.module"].values()
    )


def test_a_stale_cache_is_refused(tiny_configs):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(changed(vqgan, train={"steps": 7}))
    with pytest.raises(ValueError, match="was made by tokenizer"):
        train(generator)


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


def test_the_classifier_learns_to_tell(image_folder, tmp_path):
    data = {
        "source": {"name": "folder", "root": str(image_folder)},
        "image_size": 16,
        "channels": 1,
    }
    steps = {
        "steps": 40,
        "batch_size": 8,
        "warmup_steps": 2,
        "trackers": [],
        "mixed_precision": "no",
    }
    config = parse({"task": "classifier", "run": str(tmp_path / "c"), "data": data, "model": {"width": 8}, "train": steps}, "")  # fmt: skip
    train(config)
    rows = [row for row in read_metrics(tmp_path / "c" / "metrics.jsonl") if "accuracy" in row]
    assert rows[-1]["accuracy"] == 1.0


def test_decay_is_for_matrices_only():
    net = Transformer(
        codebook_size=8, grid=(2, 2), num_classes=2, dim=16, depth=1, heads=2, dim_head=8
    )
    names = {name for name, parameter in net.named_parameters() if parameter in decayed(net)}
    assert all(name.endswith("weight") for name in names) and "net.to_logits.weight" in names
    assert not any("emb" in name for name in names)


def test_the_learning_rate_warms_up_then_falls(tiny_configs):
    config = changed(
        tiny_configs[0], train={"steps": 100, "warmup_steps": 10, "final_share": 0.1}
    ).train
    rates = [learning_rate_at(step, config, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55) and rates[100] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_metrics_are_plain_json(tiny_configs):
    train(tiny_configs[0])
    for line in (Path(tiny_configs[0].run) / "metrics.jsonl").read_text().splitlines():
        assert all(isinstance(value, int | float) for value in json.loads(line).values())


def test_train_and_tokenise_again_change_nothing(tiny_configs, capsys):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    (Path(vqgan.run) / "tokenizer.safetensors").unlink()
    train(
        changed(vqgan, train={"log_every": 3})
    )  # exported again, with another config in its metadata
    capsys.readouterr()
    tokenize_dataset(vqgan.run, generator.codes)
    assert "tokenised already" in capsys.readouterr().err
    train(generator)


def test_a_generator_does_not_go_on_with_other_codes(tiny_configs):
    vqgan, generator = tiny_configs
    train(vqgan)
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)
    train(changed(vqgan, train={"steps": 7}))
    tokenize_dataset(vqgan.run, generator.codes, overwrite=True)
    with pytest.raises(ValueError, match="was trained with tokenizer .*, not with tokenizer"):
        train(changed(generator, train={"steps": 7}))


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
    train(changed(vqgan, train={"mixed_precision": "bf16"}))
    tokenize_dataset(vqgan.run, generator.codes)
    train(generator)


def test_a_tracker_that_is_not_installed_is_named(tiny_configs):
    with pytest.raises(ValueError, match=r"train.trackers: aim: not installed"):
        train(changed(tiny_configs[0], train={"trackers": ["aim"]}))
