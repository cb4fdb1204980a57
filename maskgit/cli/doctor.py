"""What is here, and what would stop a run: a line each, with its mend."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from maskgit.config.loading import known_configs, load
from maskgit.config.sections import Config
from maskgit.data.codes import CodeDataset, check_tokenizer
from maskgit.data.datasets import ImageDataset, Quarantine, transform_of
from maskgit.data.order import spread
from maskgit.data.sources import SPLITS, describe, load_source
from maskgit.pipeline.pipeline import Pipeline
from maskgit.precision import PRECISIONS, best_precision, matmul_peak
from maskgit.processes import held, this_process
from maskgit.training.checkpoints import checkpoints, why_broken
from maskgit.training.launch import check_trackers
from vqgan.classifier import Classifier
from vqgan.tokenizers import load_tokenizer
from vqgan.weights import weights_of

LIBRARIES = ("torch", "torchvision", "x-transformers", "vector-quantize-pytorch", "accelerate")
EXTRAS = {"evaluate": ("torchmetrics", "torch-fidelity", "prdc"), "tune": ("optuna",)}
FEW = 32
"""Images of a split that are read for a look."""


class Finding(NamedTuple):
    """A line: what was looked at, what is there, and whether a run would stop at it."""

    good: bool
    name: str
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.good else 'STOP'}  {self.name}: {self.text}"


def examine(path: str | None) -> Iterator[Finding]:
    """Of the machine; of a run's folder or a config, all that it needs."""
    yield from (_look(name, check) for name, check in MACHINE.items())
    if path is None:
        return
    try:
        config = _config_of(path)
    except (ValueError, OSError) as error:
        yield Finding(False, "config", str(error))
        return
    about = f"{config.task}, {config.train.length} of {config.train.batch_size}"
    yield Finding(True, "config", f"{path}: {about}")
    yield from (_look(name, partial(check, config)) for name, check in checks_of(config))


def _look(name: str, check: Callable[[], str]) -> Finding:
    """What a check finds, or the line of the error that a run would end with."""
    try:
        return Finding(True, name, check())
    except (ValueError, OSError, FloatingPointError) as error:
        return Finding(False, name, str(error))


def _config_of(path: str) -> Config:
    """Of a run's folder, a YAML file or a name."""
    here = Path(path)
    if here.is_dir() and path not in known_configs():
        if not (here / "config.yaml").is_file():
            raise FileNotFoundError(f"{path} is no run: it has no config.yaml")
        config = load(here / "config.yaml")
        return config.model_copy(update={"run": path})
    return load(path)


def _versions() -> str:
    found = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"python {platform.python_version()}, {found}"


def _extras() -> str:
    """Optional packages; without them a command says so when it is asked for."""
    lacking = {
        extra: [name for name in names if not _is_there(name)] for extra, names in EXTRAS.items()
    }
    lines = [
        f"{extra} (pip install 'maskgit-torch[{extra}]' brings {', '.join(names)})"
        for extra, names in lacking.items()
        if names
    ]
    return f"not there: {'; '.join(lines)}" if lines else "evaluate and tune are there"


def _is_there(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _devices() -> str:
    """Accelerators, or the CPU's threads."""
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        return f"{torch.accelerator.device_count()} x {kind}"
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    advice = "" if threads >= cores else f": OMP_NUM_THREADS={cores} would use all"
    return f"no accelerator; {threads} threads on {cores} cores{advice}"


def _precision() -> str:
    """What `auto` takes here, and how quick products are."""
    device = this_process().device
    peaks = [
        f"{name} {matmul_peak(device, dtype, 768) / 1e9:.0f} GFLOP/s"
        for name, dtype in PRECISIONS.items()
    ]
    return f"auto takes {best_precision()} ({', '.join(peaks)} in matrix products)"


MACHINE: Mapping[str, Callable[[], str]] = {
    "versions": _versions,
    "extras": _extras,
    "devices": _devices,
    "precision": _precision,
}
"""What is looked at whatever is run."""


def checks_of(config: Config) -> list[tuple[str, Callable[[Any], str]]]:
    """The checks of a config: those whose section or path it has."""
    return [(name, check) for name, (needs, check) in CHECKS.items() if hasattr(config, needs)]


def _folder(config: Config) -> str:
    """Disk, write access, and whether another process is at it."""
    run = Path(config.run)
    there = next(path for path in (run, *run.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{there} cannot be written to: set run=, or its rights")
    if run.is_dir():
        with held(run, "doctor"):
            pass
    free = shutil.disk_usage(there).free
    needed = max((_size(path) for path in checkpoints(run)), default=0)
    if free < needed:
        raise OSError(
            f"{there} has {free / 2**20:.0f} MiB free, a checkpoint takes "
            f"{needed / 2**20:.0f}: make room, or set run= to another disk"
        )
    return f"{run}: {'a run' if run.is_dir() else 'new'}, {free / 2**30:.1f} GiB free"


def _size(folder: Path) -> int:
    """Of all its files, in bytes."""
    return sum(path.stat().st_size for path in folder.iterdir())


def _trackers(config: Config) -> str:
    check_trackers(config.train)
    return ", ".join(config.train.trackers) or "none (metrics.jsonl is always written)"


def _data(config: Any) -> str:
    """What a training would say of its images; a few of each split are read."""
    sources = {split: load_source(config.data.source, split) for split in SPLITS}
    transform, corrupt = transform_of(config.data), ""
    for split, source in sources.items():
        dataset = ImageDataset(source, transform, quarantine=Quarantine(max_share=1))
        some = spread(len(dataset), FEW)
        bad = [source.name(index) for index in some if dataset.read(index) is None]
        if bad:
            corrupt += f"; of {len(some)} of {split} {len(bad)} are corrupt ({bad[0]})"
    return describe(sources) + corrupt


def _tokenizer(config: Any) -> str:
    path = weights_of(config.tokenizer, "tokenizer")
    tokenizer = load_tokenizer(path)
    height, width = tokenizer.grid
    return f"{path}: {tokenizer.codebook_size} codes in a grid of {height}x{width}"


def _codes(config: Any) -> str:
    """Every shard against the manifest."""
    splits = [CodeDataset(config.codes, split) for split in SPLITS]
    if hasattr(config, "tokenizer"):
        check_tokenizer(config.codes, splits[0].manifest, weights_of(config.tokenizer, "tokenizer"))
    counts = ", ".join(f"{split} {len(part)}" for split, part in zip(SPLITS, splits, strict=True))
    return f"{config.codes}: {counts} grids of {splits[0].grid[0]}x{splits[0].grid[1]}, verified"


def _generator(config: Any) -> str:
    pipeline = Pipeline.from_pretrained(config.generator)
    return f"{config.generator}: {len(pipeline.class_names)} classes"


def _checkpoints(config: Config) -> str:
    """Each against its hashes."""
    found = checkpoints(Path(config.run))
    if not found:
        return "none yet: it starts at step 0"
    broken = {path.name: reason for path in found if (reason := why_broken(path)) is not None}
    if len(broken) == len(found):
        path, reason = next(iter(broken.items()))
        raise ValueError(f"none of {len(found)} can be read ({path}: {reason})")
    said = "".join(f"; {name} is broken ({reason})" for name, reason in broken.items())
    good = [path.name for path in found if path.name not in broken]
    return f"{len(found)}, it goes on from {good[-1]}{said}"


def _exported(config: Config) -> str:
    """The weights that the run has exported, loaded."""
    found = [name for name in EXPORTS if (Path(config.run) / name).exists()]
    for name in found:
        EXPORTS[name](Path(config.run) / name)
    return ", ".join(found) or "none yet"


EXPORTS: Mapping[str, Callable[[Path], Any]] = {
    "tokenizer.safetensors": load_tokenizer,
    "classifier.safetensors": Classifier.load,
    "pipeline": Pipeline.from_pretrained,
}
"""What a run may export, and what reads it."""

CHECKS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "run": ("run", _folder),
    "trackers": ("train", _trackers),
    "data": ("data", _data),
    "tokenizer": ("tokenizer", _tokenizer),
    "codes": ("codes", _codes),
    "generator": ("generator", _generator),
    "checkpoints": ("run", _checkpoints),
    "exported": ("run", _exported),
}
"""name -> (the key that a config has if it needs the check, the check)."""
