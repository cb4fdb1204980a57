import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskgit.config.loading import to_dict
from maskgit.config.sections import TrainConfig
from maskgit.training.checkpoints import load_latest
from maskgit.training.launch import check_trackers
from maskgit.training.metrics_log import read_metrics
from tests.conftest import by_processes, free_port, repo
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


def accelerate_launch(node, port):
    """Its line for several machines, which asks for GPUs; without any it works all the same."""
    machines = ["--multi_gpu", "--num_machines", "2", "--num_processes", "2"]
    main = ["--machine_rank", str(node), "--main_process_ip", "127.0.0.1"]
    module = "accelerate.commands.launch"
    return [sys.executable, "-m", module, *machines, *main, "--main_process_port", port]


def torchrun(node, port):
    """As a batch system starts it: the same line on each machine."""
    nodes = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_id", "1"]
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "torch.distributed.run", *nodes, *meeting]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [accelerate_launch, torchrun])
def test_a_training_is_launched_on_two_machines(tmp_path, tiny_configs, launcher):
    """Both of which are this one."""
    config, path, port = (
        changed(tiny_configs[0], train={"steps": 2}),
        tmp_path / "c.json",
        free_port(),
    )
    path.write_text(json.dumps(to_dict(config)))
    environment = {**os.environ, "PYTHONPATH": str(repo()), "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(
            [*launcher(node, port), "-m", "maskgit", "train", str(path)],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for node in range(2)
    ]  # fmt: skip
    try:
        said = [node.communicate(timeout=200)[1] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], said[0][-3000:] + said[1][-3000:]
    found = load_latest(Path(config.run))
    assert (found.step, found.state["processes"]) == (2, 2)
