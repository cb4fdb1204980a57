from pathlib import Path

import pytest

from maskgit.training.checkpoints import load_latest
from maskgit.training.metrics_log import read_metrics
from maskgit.training.trainer import train
from tests.training.conftest import changed


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
