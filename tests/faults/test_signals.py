"""Signals to commands under each launcher: ended within seconds, what there is saved, no orphan."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from maskgit.training.checkpoints import load_latest
from tests.conftest import repo
from tests.faults.conftest import cases
from tests.faults.processes_driver import CONFIGS

pytestmark = [pytest.mark.faults, pytest.mark.slow]
ACCELERATE = ["launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "python": [sys.executable, "-m", "maskgit"],
    "accelerate": [str(BIN / "accelerate"), *ACCELERATE, "-m", "maskgit"],
    "torchrun": [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", "-m", "maskgit"],
}
LONG = ["train.steps=1000000", "train.save_every=1000000", "train.eval_every=1000000", "train.preview_every=1000000"]  # fmt: skip
COMMANDS = {
    "train": (["train", "t.yaml", *LONG], "step"),
    "train generator": (["train", "m.yaml", *LONG], "step"),
    "sample": (["sample", "m", "--out", "many", "--per-label", "100000"], "sample:"),
    "evaluate": (["evaluate", "m", "--count", "1000000", "--metrics", "fid"], "samples:"),
}
"""What runs, and what it says when it is well under way."""
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT]
CASES = [
    *[("accelerate", s, "train") for s in (signal.SIGTERM, signal.SIGKILL)],
    *[("torchrun", s, "train") for s in (signal.SIGTERM, signal.SIGKILL)],
    *[("python", s, c) for c in COMMANDS for s in SIGNALS],
    *[("accelerate", s, c) for c in ("train generator", "sample") for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)],
    *[("torchrun", s, c) for c in ("train generator", "sample") for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, signal.SIGQUIT)],
]  # fmt: skip
"""40. A launcher that is killed passes nothing on."""


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """A folder with a trained tokenizer, codes, a generator and a judge, by one process."""
    driver = [sys.executable, str(repo() / "tests" / "faults" / "processes_driver.py")]
    scratch = tmp_path_factory.mktemp("product")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo())}
    subprocess.run(
        [*driver, str(scratch), "umask", "1"], env=environment, check=True, capture_output=True
    )
    return scratch / "0" / "now"


def mine(mark):
    """The processes that carry a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def heard():
    """No signal is ignored, as those of a background job of a shell are."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def rank_one(mark):
    """The process that torchrun started second."""
    [found] = [p for p in mine(mark) if b"\0RANK=1\0" in (Path(f"/proc/{p}/environ").read_bytes())]
    return found


def tried(folder, launcher, number, command, mark, to_rank=False):
    """What is wrong with how a command ends after a signal to what started it, or to rank 1."""
    words, under_way = COMMANDS[command]
    shutil.rmtree(folder / "t" / "checkpoints", ignore_errors=command != "train")
    shutil.rmtree(folder / "m" / "checkpoints", ignore_errors=True)
    environment = {
        **os.environ, "PYTHONPATH": str(repo()), "OMP_NUM_THREADS": "1", "FAULTS_MARK": mark,
        "MASKGIT_CACHE": str(folder / "cache"),
    }  # fmt: skip
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    with open(folder / "talk", "w") as talk:
        process = subprocess.Popen(
            [*LAUNCHERS[launcher], *words],
            cwd=folder,
            env=environment,
            stdout=talk,
            stderr=talk,
            preexec_fn=heard,
        )
        deadline = time.monotonic() + 60
        while under_way not in (folder / "talk").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        if run := {"train": "t", "train generator": "m"}.get(command):  # there is a step to save
            rows = folder / run / "metrics.jsonl"
            while not rows.read_text().strip() and time.monotonic() < deadline:
                time.sleep(0.05)
        time.sleep(0.3)
        start = time.monotonic()
        if to_rank:
            os.kill(rank_one(mark), number)
        else:
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        status = process.poll()
        while mine(mark) and time.monotonic() < start + 10:
            time.sleep(0.05)
    said = (folder / "talk").read_text()
    faults = [f"orphans {mine(mark)}"] if mine(mark) else []
    if launcher == "python" and status != 128 + number:
        faults.append(f"status {status}: {said[-300:]}")
    if run and load_latest(folder / run) is None:
        faults.append(f"nothing saved: {said[-300:]}")
    lines = [line for line in said.splitlines() if line.startswith("maskgit: ")]
    if to_rank and (
        len(lines) != 1 or f'File "{repo()}/maskgit' in said
    ):  # torchrun has its traceback
        faults.append(f"said: {said[-3000:]}")
    if not to_rank:  # what a killed one leaves is removed by the next command
        faults += [f"left {path}" for path in folder.rglob(".tmp*")]
    for pid in mine(mark):
        os.kill(pid, signal.SIGKILL)
    return faults


@pytest.mark.timeout(2000)
def test_a_signal_ends_all_of_a_command_and_saves_what_there_is(product, tmp_path, tally):
    assert len(CASES) == 40
    chosen, failed = CASES[: cases(3, 40)], {}
    for number, (launcher, sent, command) in enumerate(chosen):
        folder = tmp_path / "tried"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(product, folder)
        faults = tried(folder, launcher, sent, command, f"{tmp_path.name}-{number}-")
        if faults:
            failed[f"{command} under {launcher}, {sent.name}"] = faults
    print(json.dumps(failed, indent=1))
    tally("signals", len(chosen) - len(failed), len(chosen))


@pytest.mark.timeout(600)
def test_where_a_rank_is_killed_the_main_process_saves_and_all_end(product, tmp_path, tally):
    commands = ["train generator", "train", "sample", "evaluate"] * 3
    chosen, failed = commands[: cases(1, 12)], {}
    for number, command in enumerate(chosen):
        folder = tmp_path / "tried"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(product, folder)
        mark = f"{tmp_path.name}-rank-{number}-"
        if faults := tried(folder, "torchrun", signal.SIGKILL, command, mark, to_rank=True):
            failed[f"{number} {command}"] = faults
    print(json.dumps(failed, indent=1))
    tally("killed ranks", len(chosen) - len(failed), len(chosen))


def test_the_configs_are_those_of_the_driver():
    assert set(CONFIGS) >= {"t.yaml", "m.yaml"}
