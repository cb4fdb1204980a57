"""Folders of what is kept for the next time, unwritable or damaged: a warning, and the same result."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from maskgit.machine import warn_once
from tests.conftest import TINY_TOKENIZER, cli, repo
from tests.data.conftest import make_shards
from tests.faults.conftest import cases
from vqgan.classifier import Classifier
from vqgan.files import sha256

pytestmark = pytest.mark.faults


def in_its_place(cache):
    shutil.rmtree(cache)
    cache.write_text("a file")
    return cache


def below_a_file(cache):
    return in_its_place(cache) / "cache"


def nowhere(cache):
    return Path("/proc/nowhere")


def changed(change):
    """A harm to every file of a cache but locks."""

    def harm(cache):
        for path in [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]:
            content = path.read_bytes()
            path.unlink()
            change(path, content)
        return cache

    return harm


HARMS = {
    "a file in its place": in_its_place,
    "flips": changed(
        lambda path, content: path.write_bytes(
            bytes(b ^ 16 * (i % 211 == 7) for i, b in enumerate(content))
        )
    ),
    "below a file": below_a_file,
    "other bytes": changed(lambda path, content: path.write_bytes(bytes(b ^ 85 for b in content))),
    "nowhere": nowhere,
    "empty files": changed(lambda path, content: path.touch()),
    "cut": changed(lambda path, content: path.write_bytes(content[: len(content) // 2])),
    "folders for files": changed(lambda path, content: path.mkdir()),
}


def features(cache, monkeypatch):
    """Of the images that samples are compared with."""
    monkeypatch.setenv("MASKGIT_CACHE", str(cache))
    options = {
        "samples": "images/train", "reference": "images/val", "features": "classifier", "weights": ".",
        "metrics": "fid", "out": "out",
    }  # fmt: skip
    status = cli(
        "evaluate", *(word for key, value in options.items() for word in (f"--{key}", value))
    )
    return status, json.loads(Path("out/results.json").read_text())["numbers"]


def indices(cache, monkeypatch):
    """Of tar shards."""
    monkeypatch.setenv("MASKGIT_CACHE", str(cache))
    return train("shards.yaml")


def tables(cache, monkeypatch):
    """Of the library datasets, which copies what is no parquet file."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return train("table.yaml")


def train(config):
    shutil.rmtree("out", ignore_errors=True)
    status = cli("train", config)
    return status, sha256("out/tokenizer.safetensors")


def fonts(cache, monkeypatch):
    """Of matplotlib, which knows its folder once it is imported."""
    Path("plot.py").write_text(PLOT)
    environment = os.environ | {"MPLCONFIGDIR": str(cache), "PYTHONPATH": str(repo())}
    command = [sys.executable, "plot.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    return done.returncode, sha256("plot.png")


PLOT = """
from pathlib import Path
from maskgit.plots import figure
with figure(Path("plot.png"), (2, 2)) as (_, axes):
    axes[0, 0].set(title="a title")
"""
TRAIN = {"steps": 2, "batch_size": 8, "precision": "fp32", "trackers": []}
CACHES = {"features": features, "indices": indices, "tables": tables, "fonts": fonts}


@pytest.fixture
def here(tmp_path, image_folder, monkeypatch):
    """A folder with the runs and the data that the commands need."""
    monkeypatch.chdir(tmp_path)
    Classifier(channels=1, num_classes=2, width=8).save(
        "classifier.safetensors", {"class_names": ["bag", "coat"]}
    )
    table = {"path": "imagefolder", "data_dir": "images", "label_column": "label"}
    sources = {
        "shards.yaml": {"name": "webdataset", "train": make_shards(tmp_path)},
        "table.yaml": {"name": "huggingface", **table},
    }
    for name, source in sources.items():
        data = {"source": source, "image_size": 16, "channels": 1}
        config = {"task": "tokenizer", "run": "out", "data": data, "model": TINY_TOKENIZER}
        Path(name).write_text(json.dumps(config | {"train": TRAIN}))
    return tmp_path


def test_a_cache_that_cannot_be_used_is_a_warning(here, monkeypatch, capfd, tally):
    harms, failed = list(HARMS.items())[: cases(2, 8)], []
    for name, command in CACHES.items():
        full = here / name
        full.mkdir()
        whole = command(full, monkeypatch)
        for number, (title, harm) in enumerate(harms):
            cache = shutil.copytree(full, here / f"{name} {number}")
            capfd.readouterr()
            warn_once.cache_clear()
            found = command(harm(cache), monkeypatch)
            said = capfd.readouterr().err
            # for each of two files that it is not read, and not kept; matplotlib has its own words
            warned = sum("warning: " in line for line in said.splitlines())
            good = found == whole and whole[0] == 0 and "Traceback" not in said
            if not good or not (name == "fonts" or 1 <= warned <= 4):
                failed.append((name, title, whole, found, said[-1500:]))
    print(*failed, sep="\n")
    count = len(CACHES) * len(harms)
    tally("caches", count - len(failed), count)
