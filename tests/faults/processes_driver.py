"""Commands of one small product, each in a fork of its own: killed, short of room, two at once.

    python tests/faults/processes_driver.py SCRATCH ROW COUNT

ROW: kills, disk, umask or pairs. Prints JSON: [{"what": ..., "wrong": [...]}, ...], one for each.
Everything is imported once; a fork runs a command, as it was or with a patch.
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import torchvision  # noqa: F401 (here, so that no fork imports it again)

torch.set_num_threads(1)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from maskgit import processes  # noqa: E402
from maskgit.cli import main as run_command  # noqa: E402
from maskgit.evaluation import generator, tuning  # noqa: E402, F401
from maskgit.training import trainer  # noqa: E402, F401
from tests.conftest import leave_after  # noqa: E402
from vqgan.files import sha256  # noqa: E402

TRAIN = {
    "steps": 4, "batch_size": 8, "warmup_steps": 1, "log_every": 2, "eval_every": 2, "preview_every": 4,
    "save_every": 2, "precision": "fp32", "trackers": [],
}  # fmt: skip
DATA = {"source": {"name": "folder", "root": "images"}, "image_size": 16, "channels": 1}
NET = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
VQ = {"name": "vq", "codebook_size": 16, "codebook_dim": 4}
MODEL = {"widths": [8, 8], "num_blocks": 0, "latent_dim": 4, "patch_size": 2, "quantizer": VQ}
CONFIGS = {
    "t.yaml": {"task": "tokenizer", "run": "t", "data": DATA, "model": MODEL, "train": TRAIN},
    "m.yaml": {"task": "maskgit", "run": "m", "tokenizer": "t", "codes": "c", "model": NET, "train": TRAIN},
    "j.yaml": {"task": "classifier", "run": "classifier", "data": DATA, "model": {"width": 8}, "train": TRAIN},
    "k.yaml": {"task": "critic", "run": "k", "generator": "m", "codes": "c", "model": NET, "train": TRAIN},
}  # fmt: skip
SOME = ("--steps", "2", "--per-label", "3")
COMMANDS = {
    "train tokenizer": ("train", "t.yaml"),
    "tokenize": ("tokenize", "t", "--out", "c"),
    "train generator": ("train", "m.yaml"),
    "train classifier": ("train", "j.yaml"),
    "train critic": ("train", "k.yaml"),
    "overwrite": ("tokenize", "t", "--out", "c", "--overwrite"),
    "sample grid": ("sample", "m", "--out", "grid.png", *SOME),
    "sample folder": ("sample", "m", "--out", "samples", *SOME),
    "sample npz": ("sample", "m", "--out", "samples.npz", *SOME),
    "evaluate": ("evaluate", "m", "--count", "20", "--steps", "2", "--metrics", "fid,agreement"),
    "tune": ("tune", "m", "--sampler", "halton", "--rounds", "2", "--trials", "2", "--count", "20"),
    "compare": ("compare", "m", "--samplers", "halton", "--rounds", "2", "--count", "20"),
}
CALLS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")
"""Of the file system: a kill comes before or after one of them."""


def fork(folder, words, patch=None, talk=None):
    """A child that runs a command in a folder; talk: a descriptor for what it says, else `said`."""
    child = os.fork()
    if child:
        return child

    def work():
        os.chdir(folder)
        os.environ["MASKGIT_CACHE"] = str(folder / "cache")
        to = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if talk is None else talk
        os.dup2(to, 1)
        os.dup2(to, 2)
        if patch is not None:
            patch()
        run_command(words)

    leave_after(work)
    return None


def ended(child):
    """-> its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(folder, words, patch=None):
    return ended(fork(folder, words, patch))


def said(folder):
    """The last line of what a command told."""
    lines = (folder / "said").read_text(errors="replace").strip().splitlines() or [""]
    return lines[-1]


def numbers(path):
    return {k: v["value"] for k, v in json.loads(path.read_text())["numbers"].items()}


def results(folder):
    """What a folder holds that another run of the same commands must hold to the bit."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith(("cache/", "images/")) or "/tuning/" in name:
            continue
        if path.suffix in (".safetensors", ".png", ".npz") and "samplers" not in name:
            found[name] = sha256(path)
        if path.name == "manifest.json" and path.parent.name == "c":
            found[name] = sha256(path)
        if path.name == "results.json":
            found[name] = numbers(path)
    found["presets"] = sorted(p.name for p in folder.rglob("presets/*.yaml"))
    found["left"] = sorted(str(p) for p in folder.rglob(".tmp*"))
    return found


def bases(scratch):
    """The folder as it is before each command, and what it holds after it."""
    here = scratch / "now"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for label, name in enumerate(("bag", "coat")):
            (here / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 40, (16, 16), dtype=np.uint8)
                image[2 + 4 * label : 5 + 4 * label] += 180
                Image.fromarray(image).save(here / "images" / split / name / f"{i:02d}.png")
    for name, values in CONFIGS.items():
        (here / name).write_text(json.dumps(values))
    found = {}
    for name, words in COMMANDS.items():
        base = scratch / f"before {name}"
        shutil.copytree(here, base)
        status = run(here, words)
        assert status == 0, (name, (here / "said").read_text()[-2000:])
        found[name] = (base, results(here))
    return found


def on_call(number, do, before):
    """Do something at the number-th call of the file system; -1: count them into a file."""
    count = [0]

    def wrapped(real):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == number and before:
                do()
            if number < 0:
                Path("calls").write_text(str(count[0]))
            here = count[0]
            try:
                return real(*args, **kwargs)
            finally:
                if here == number and not before:
                    do()

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


def copied(scratch, base):
    folder = scratch / "tried"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    return folder


def wrong(found, truth):
    return [key for key in truth if found.get(key) != truth[key]]


def kills(scratch, count):
    """Kill every command at calls spread over its course; the same command again ends the same."""
    found, total = bases(scratch), {}
    for name, (base, _) in found.items():
        folder = copied(scratch, base)
        run(folder, COMMANDS[name], lambda: on_call(-1, None, True))
        total[name] = int((folder / "calls").read_text())
    names = list(found)
    for number in range(count):
        name = names[number % len(names)]
        base, truth = found[name]
        turn, turns = number // len(names), -(-count // len(names))
        at = 1 + (turn * total[name] + total[name] // 2) // turns
        folder = copied(scratch, base)

        def die(at=at, before=bool(number % 2)):
            on_call(at, lambda: os.kill(os.getpid(), signal.SIGKILL), before)

        status = run(folder, COMMANDS[name], die)
        again = run(folder, COMMANDS[name])
        faults = [] if status == -9 else [f"not killed: {status}"]
        faults += [] if again == 0 else [f"again {again}: {said(folder)}"]
        yield f"{name}, call {at}", faults + wrong(results(folder), truth)


def disk(scratch, count):
    """No file may grow beyond a size; one line says which, and with room the command goes on."""
    found = bases(scratch)
    names = ["train tokenizer", "tokenize", "sample folder", "sample npz", "evaluate"]
    for number in range(count):
        name, size = names[number % 5], int(1.8 ** (number // 5 + 2)) * 16
        base, truth = found[name]
        folder = copied(scratch, base)

        def limited(size=size):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        status = run_limited(folder, COMMANDS[name], limited)
        line = (folder / "said").read_text(errors="replace")
        left = results(folder)["left"]
        faults = [f"left {left}"] if left else []
        if status not in (0, 2):
            faults.append(f"status {status}: {line}")
        if status == 2 and "cannot be written" not in line:
            faults.append(f"said {line[-300:]}")
        again = run(folder, COMMANDS[name])
        faults += [] if again == 0 else [f"again {again}: {said(folder)}"]
        yield f"{name}, {size} bytes", faults + wrong(results(folder), truth)


def run_limited(folder, words, limit=None):
    """As `run`; talk is through a pipe, since files may not grow."""
    read, write = os.pipe()
    child = fork(folder, words, limit, write)
    os.close(write)
    with os.fdopen(read, errors="replace") as file:
        talk = file.read()
    (folder / "said").write_text(talk)
    return ended(child)


def umask(scratch, count):
    """All that commands write has the mode of the umask."""
    for number, mask in enumerate((0o022, 0o077, 0o000)[:count]):
        os.umask(mask)
        folder = scratch / str(number)
        folder.mkdir(parents=True)
        bases(folder)
        modes = {
            str(p.relative_to(folder)): p.stat().st_mode & 0o777
            for p in (folder / "now").rglob("*")
            if p.is_file() and "images" not in p.parts and p.name not in (*CONFIGS, "said")
        }
        faults = [f"{name} {mode:o}" for name, mode in modes.items() if mode != 0o666 & ~mask]
        yield f"umask {mask:03o}", faults


PAIRS = [
    ("train tokenizer",) * 2, ("tokenize",) * 2, ("train generator",) * 2, ("train classifier",) * 2,
    ("train critic",) * 2, ("sample folder",) * 2, ("evaluate",) * 2, ("tune",) * 2, ("compare",) * 2,
    ("overwrite", "tokenize"), ("tokenize", "overwrite"), ("overwrite",) * 2,
]  # fmt: skip


def pairs(scratch, count):
    """A second command on the same folder is refused while the first one holds it, and only then."""
    found = bases(scratch)
    for number in range(count):
        first, second = PAIRS[number % len(PAIRS)]
        base, truth = found[first]
        folder = copied(scratch, base)

        def waiting():
            real = processes.clean

            def cleaned(path):
                real(path)
                Path("held").touch()
                while not Path("go").exists():
                    time.sleep(0.01)

            processes.clean = cleaned

        child = fork(folder, COMMANDS[first], waiting)
        while not (folder / "held").exists():
            time.sleep(0.01)
        status = run_limited(folder, COMMANDS[second])
        line = said(folder)
        faults = [] if status == 2 and f"(pid {child} on " in line else [f"{status}: {line}"]
        if number % 3 == 2:  # a dead owner's lock is free
            os.kill(child, signal.SIGKILL)
            ended(child)
            again = run(folder, COMMANDS[first])
        else:
            (folder / "go").touch()
            again = ended(child)
        faults += [] if again == 0 else [f"the first ended with {again}"]
        yield f"{first} and {second}", faults + wrong(results(folder), truth)


if __name__ == "__main__":
    scratch, row, count = Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3])
    rows = {"kills": kills, "disk": disk, "umask": umask, "pairs": pairs}[row](scratch, count)
    print(json.dumps([{"what": what, "wrong": faults} for what, faults in rows]))
