from pathlib import Path

import pytest
import torch

from maskgit.training.checkpoints import load_latest
from maskgit.training.launch import make_accelerator
from maskgit.training.metrics_log import read_metrics
from maskgit.training.tasks.tokenizer import TokenizerTask
from maskgit.training.trainer import train
from tests.training.conftest import changed
from vqgan.classifier import Classifier


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


def test_all_that_sees_images_has_the_memory_format_of_the_model(tiny_configs, tmp_path):
    channels = tiny_configs[0].data.channels
    seeing = tmp_path / "classifier.safetensors"
    Classifier(channels=channels, num_classes=2, width=8).save(seeing, {})
    for last in (False, True):
        config = changed(
            tiny_configs[0],
            model={"channels_last": last},
            loss={
                "perceptual": {"name": "classifier", "weights": str(seeing)},
                "adversarial": {"discriminator": {"name": "patchgan", "width": 8, "num_layers": 1}},
            },
            data={"image_size": 16},
        )
        task = TokenizerTask(config, make_accelerator(config.train, Path(config.run)))
        for net in (task.main.module, task.compare.perceptual, task.adversary.learner.module):
            kernels = [weight for weight in net.parameters() if weight.ndim == 4]
            wide = [w for w in kernels if min(w.shape) > 1]
            assert wide and all(
                w.is_contiguous(memory_format=torch.channels_last) == last for w in wide
            )
