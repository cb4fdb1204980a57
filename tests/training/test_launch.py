import json

import pytest
import torch

from maskgit.config.loading import to_dict
from maskgit.config.sections import TrainConfig
from maskgit.training.checkpoints import load_latest
from maskgit.training.launch import check_trackers
from maskgit.training.metrics_log import read_metrics
from tests.conftest import by_processes, repo
from tests.training.conftest import changed


def test_a_tracker_that_is_not_there_is_named():
    check_trackers(TrainConfig(trackers=("tensorboard",)))
    with pytest.raises(ValueError, match="train.trackers: nothing: not installed"):
        check_trackers(TrainConfig(trackers=("nothing",)))


@pytest.mark.slow
def test_gradients_that_lie_where_they_are_exchanged_train_the_same(tiny_configs, tmp_path):
    """Two processes, both nets, parts of steps: not a bit of the weights or losses is another."""
    adversarial = {
        "discriminator": {"name": "patchgan", "width": 8, "num_layers": 1},
        "start_step": 1,
        "r1": 1.0,
    }
    config = changed(
        tiny_configs[0], loss={"adversarial": adversarial}, train={"accumulate": 2, "steps": 4}
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    by_processes(2, repo() / "tests" / "training" / "bucket_driver.py", path)
    runs = [tmp_path / "vqgan" / name for name in ("view", "copy")]
    one, other = (load_latest(run).tensors for run in runs)
    assert one.keys() == other.keys() and len(one) == 5
    for part, values in one.items():
        assert all(torch.equal(value, other[part][name]) for name, value in values.items()), part
    losses = [[row["loss"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row] for run in runs]  # fmt: skip
    assert losses[0] == losses[1] and len(losses[0]) >= 2
