"""Small things that many tests share: an oracle, tiny models, tiny data sets on disk. No network,
no trained net."""

import copy
import itertools
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from maskgit.stopping import Stopped

os.environ["HF_HUB_OFFLINE"] = "1"
# how long an example takes is the machine's affair
settings.register_profile("here", deadline=None)
settings.load_profile("here")
# equal to the last bit, as many tests ask, CPUs alone are
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


class Oracle:
    """A Predictor that knows the exact conditionals of a joint distribution over a small grid of
    codes."""

    def __init__(self, joint, grid):
        """joint: (num_codes,) * num_cells, sums to 1."""
        self.joint, self.grid, self.mask_id = joint.double(), grid, joint.shape[0]
        self.calls = 0
        self.base = self.mask_id + 1
        self.table = torch.stack(
            [self.conditional(g) for g in all_grids(self.base, joint.ndim)]
        ).log()

    def all_logits(self, codes):
        """(batch, *grid) -> (batch, *grid, num_codes), by looking up each partly known grid."""
        flat = codes.flatten(1)
        number = (flat * self.base ** torch.arange(flat.shape[1] - 1, -1, -1)).sum(1)
        return self.table[number].view(*codes.shape, self.mask_id)

    def logits(self, codes, cells, r):
        self.calls += 1
        return self.all_logits(codes)[cells]

    def scores(self, codes, r):
        """A critic that knows nothing."""
        return torch.zeros(codes.shape)

    self_scores = scores

    def conditional(self, flat):
        """(num_cells, num_codes): p(cell | the known cells), for one grid."""
        table = self.joint
        for axis, code in enumerate(flat.tolist()):
            if code != self.mask_id:
                table = table.index_select(axis, torch.tensor([code]))
        out = []
        for axis, code in enumerate(flat.tolist()):
            others = [a for a in range(table.ndim) if a != axis]
            marginal = table.sum(others)
            if code != self.mask_id:
                marginal = torch.eye(self.mask_id, dtype=torch.float64)[code]
            out.append(marginal / marginal.sum())
        return torch.stack(out)


@pytest.fixture
def oracle():
    """4 cells in a 2 x 2 grid, 3 codes, a random table of 81 probabilities."""
    joint = (
        torch.rand([3] * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 2
    )
    return Oracle(joint / joint.sum(), (2, 2))


class Flat:
    """A Predictor with fixed random logits for each cell, whatever is known."""

    def __init__(self, grid, num_codes, seed=0):
        self.table = (
            torch.randn(*grid, num_codes, generator=torch.Generator().manual_seed(seed)) * 2
        )
        self.mask_id = num_codes
        self.calls = 0

    def logits(self, codes, cells, r):
        self.calls += 1
        return self.table.expand(len(codes), *self.table.shape)[cells]

    def scores(self, codes, r):
        return self.table[..., 0].expand(codes.shape)

    self_scores = scores


@pytest.fixture
def flat_predictor():
    return Flat


def blob(label, rng, size=16, channels=1):
    """A noisy picture whose class can be seen: a bright band at a height given by the label."""
    image = rng.integers(0, 40, (size, size, channels), dtype=np.uint8)
    row = 2 + 4 * label
    image[row : row + 3] += 180
    return image[..., 0] if channels == 1 else image


@pytest.fixture
def image_folder(tmp_path):
    """root/train and root/val, classes `bag` and `coat`, 16x16 grey PNGs."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("bag", "coat")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(blob(label, rng)).save(folder / f"{i:02d}.png")
    return root


TINY_TOKENIZER = {"widths": [8, 8], "num_blocks": 0, "latent_dim": 4, "patch_size": 2}


@pytest.fixture
def tiny_configs(tmp_path, image_folder):
    """(tokenizer, generator) configs that run two stages on `image_folder` in seconds."""
    from maskgit.config.loading import parse

    train = {
        "steps": 6, "batch_size": 8, "warmup_steps": 2, "log_every": 2, "eval_every": 3, "preview_every": 6,
        "save_every": 2, "precision": "fp32", "trackers": [],
    }  # fmt: skip
    vqgan = {
        "task": "tokenizer",
        "run": str(tmp_path / "vqgan"),
        "data": {
            "source": {"name": "folder", "root": str(image_folder)},
            "image_size": 16,
            "channels": 1,
            "flip": True,
        },
        "model": {
            **TINY_TOKENIZER,
            "quantizer": {"name": "vq", "codebook_size": 16, "codebook_dim": 4},
        },
        "train": train,
    }
    generator = {
        "task": "maskgit",
        "run": str(tmp_path / "maskgit"),
        "tokenizer": vqgan["run"],
        "codes": str(tmp_path / "codes"),
        "model": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "dropout": 0.1},
        "sampler": {"name": "confidence", "steps": 3},
        "train": train,
    }
    return parse(vqgan, "vqgan"), parse(generator, "maskgit")


def make_pipeline(codes_per_cell=1, class_names=("bag", "t-shirt", "coat"), **options):
    """An untrained Pipeline of 4 x 4 cells of 16 codes."""
    from maskgit.model.transformer import Transformer
    from maskgit.model.wrapper import NonAutoregressiveWrapper
    from maskgit.pipeline.pipeline import Pipeline
    from vqgan.tokenizer import Tokenizer

    torch.manual_seed(0)
    quantizer = {"name": "fsq", "levels": [4, 4]}
    if codes_per_cell > 1:
        quantizer = {"name": "rvq", "codebook_size": 16, "codes_per_cell": codes_per_cell}
    tokenizer = Tokenizer(image_size=16, channels=1, **TINY_TOKENIZER, quantizer=quantizer).eval()
    grid, shape = tokenizer.grid, {"dim": 32, "depth": 2, "heads": 2, "dim_head": 16}
    parts = {"codes_per_cell": codes_per_cell}
    transformer = Transformer(
        codebook_size=16, grid=grid, num_classes=len(class_names), **shape, **parts, **options
    )
    # the adaptive norms start at zero: without noise no label matters
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = NonAutoregressiveWrapper(transformer, mask_id=16)
    return Pipeline(model, tokenizer, class_names, sampler={"name": "confidence", "steps": 4})


@pytest.fixture
def tiny_pipeline():
    """The one of `make_pipeline`."""
    return make_pipeline()


@pytest.fixture
def run(tiny_pipeline, tmp_path):
    """The folder of a run that has exported the tiny pipeline."""
    tiny_pipeline.save_pretrained(tmp_path / "run" / "pipeline")
    return tmp_path / "run"


@pytest.fixture
def heard():
    """Signals that a shell's background job, such as this run perhaps, is told to ignore."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT)


def repo() -> Path:
    """The checkout that holds the tests."""
    return Path(__file__).parents[1]


def free_port() -> str:
    """A port of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def as_an_accelerator(patch):
    """CPUs are asked for no value, either: what a training does on accelerators is done on them."""
    from maskgit.training import learner
    from vqgan import tokenizer
    from vqgan.quantizers import restarts

    for place in (learner, tokenizer, restarts):
        patch.setattr(place, "answers_at_once", lambda device: False)


def by_processes(number, script, *words):
    """What a script of this folder prints when torchrun starts so many processes of it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(repo()), "OMP_NUM_THREADS": "1"}
    command = [*launcher, f"--nproc_per_node={number}", script, *map(str, words)]
    done = subprocess.run(command, cwd=repo(), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def launched(number, *words, seconds=60):
    """How each process of a command ends that a launcher starts: its status, and what it said."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(number)}
    place |= {"PYTHONPATH": str(repo()), "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": str(number)}
    command = [sys.executable, "-m", "maskgit", *map(str, words)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    try:
        said = [process.communicate(timeout=seconds)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def all_grids(num_codes, num_cells):
    """Every grid: (num_codes ** num_cells, num_cells)."""
    return torch.tensor(list(itertools.product(range(num_codes), repeat=num_cells)))


def leave_after(work):
    """In a fork: do the work, and end with its exit status, after a traceback if it fails."""
    status = 1
    try:
        work()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except Stopped as stopped:
        status = 128 + stopped.signal_number
    finally:
        if status == 1:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class OracleNet(torch.nn.Module):
    """A net with the surface that the wrapper asks for, whose logits are the exact conditionals of
    an Oracle.

    `noise` perturbs every conditional by fixed random logits, so that it is no oracle any more.
    """

    def __init__(self, oracle, noise=0.0):
        super().__init__()
        self.grid, self.num_codes = oracle.grid, oracle.mask_id
        draws = torch.Generator().manual_seed(0)
        table = oracle.table.clamp_min(-690.0)  # finite, so that noise can be added
        table = table + noise * torch.randn(table.shape, generator=draws, dtype=table.dtype)
        self.oracle = copy.copy(oracle)
        self.oracle.table = table
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.to_logits = torch.nn.Identity()
        self.max_seq_len = oracle.joint.ndim

    def forward(self, codes, return_embeddings=True):
        return self.oracle.all_logits(codes) + self.weight


def cli(*words):
    """-> the exit status of a command, run in this process."""
    from maskgit.cli import main

    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return end.code or 0
    return 0
