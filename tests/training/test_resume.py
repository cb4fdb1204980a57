"""Kill -9 at any moment, the same command again: bit-identical weights, optimiser and averages."""

import json
import os
import subprocess
import sys

import pytest

from maskgit.config.loading import to_dict
from maskgit.config.sections import AdversarialConfig
from maskgit.data.tokenization import tokenize_dataset
from maskgit.training.trainer import train
from tests.conftest import repo


def drive(tmp_path, config, processes):
    path = tmp_path / f"{config.task}.json"
    path.write_text(json.dumps(to_dict(config)))
    scratch = tmp_path / f"{config.task}-{processes}"
    command = [
        sys.executable,
        str(repo() / "tests" / "training" / "resume_driver.py"),
        str(path),
        str(scratch),
        str(processes),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("task", ["tokenizer", "maskgit"])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, tiny_configs, task, processes):
    vqgan, generator = tiny_configs
    if task == "maskgit":
        train(vqgan)
        tokenize_dataset(vqgan.run, generator.codes)
    judge = {"discriminator": {"name": "patchgan", "width": 8, "num_layers": 1}, "start_step": 1,
             "lecam": 0.1, "r1": 1.0, "r1_every": 2, "augment": True}  # fmt: skip
    vqgan = vqgan.model_copy(
        update={"loss": vqgan.loss.model_copy(update={"adversarial": AdversarialConfig(**judge)})}
    )
    results = drive(tmp_path, vqgan if task == "tokenizer" else generator, processes)
    truth = results.pop("undisturbed")
    assert truth.pop("ended") == 0
    killed = [name for name, result in results.items() if result.pop("ended") in (-9, 143)]
    missed = {"while a generator is exported"} if task == "tokenizer" else set()
    assert set(results) - set(killed) == missed, "every moment must come"
    for name, result in results.items():
        assert result == truth, name
    assert truth["step"] == "step_00000006" and truth["leftovers"] == []
