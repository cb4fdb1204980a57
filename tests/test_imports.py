"""What a command may import before it has anything to do: a new library in these lists costs every
user its seconds (see with `python -X importtime -m maskgit ...`)."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain

import pytest

from tests.conftest import repo

SAMPLE = {
    "accelerate", "annotated-types", "einops", "numpy", "omegaconf", "pillow", "pydantic",
    "safetensors", "torch", "tqdm", "typer", "vector-quantize-pytorch", "x-transformers",
}  # fmt: skip
"""Of the libraries that pyproject.toml names, those that `sample` imports."""
NEVER = {
    "sympy", "einx", "triton", "torch._dynamo", "torch._inductor", "torch.distributed.tensor",
    "torch.distributed.fsdp", "torchvision", "matplotlib", "datasets", "pandas", "pyarrow", "scipy",
    "tensorboard", "huggingface_hub", "maskgit.training", "maskgit.evaluation", "maskgit.editing",
}  # fmt: skip
"""What takes seconds, and `sample` has no use for."""
GENERATOR = repo() / "tests/golden/0.1/critic/pipeline"
SHOW = """
import json, sys
try:
    from maskgit.cli import main
    main(sys.argv[1:])
except SystemExit:
    pass
print("MODULES", json.dumps(sorted(sys.modules)))
"""


def imported_by(tmp_path, *words):
    """The modules that a command has imported when it ends, in a process of its own."""
    environment = {**os.environ, "MASKGIT_CACHE": str(tmp_path), "PYTHONPATH": str(repo())}
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *words], capture_output=True, text=True, env=environment
    )
    assert "MODULES" in done.stdout, done.stderr
    return set(json.loads(done.stdout.rpartition("MODULES ")[2]))


@pytest.fixture(scope="module")
def by_sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    found = imported_by(folder, "sample", str(GENERATOR), "--out", str(folder / "grid.png"))
    assert (folder / "grid.png").is_file()
    return found


def test_sample_imports_nothing_that_takes_seconds(by_sample):
    assert not by_sample & NEVER


def test_of_our_libraries_sample_imports_those_listed(by_sample):
    project = tomllib.loads((repo() / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    named = {re.match(r"[\w-]+", line)[0].lower() for line in lines} - {"maskgit-torch"}
    tops = {name.partition(".")[0] for name in by_sample}
    found = {
        home.lower().replace("_", "-")
        for top, homes in packages_distributions().items()
        if top in tops
        for home in homes
    }
    assert found & named == SAMPLE


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--version"], ["sample", "--help"], ["train", "--help"], ["sample"],
        ["sample", "nothing/here", "--out", "x.png"], ["train", "mnist/nothing"],
        ["info", "nothing/here"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_help_and_slips_come_without_torch(tmp_path, words):
    assert "torch" not in imported_by(tmp_path, *words)


def test_the_second_list_comes_without_torch(tmp_path):
    first, second = (imported_by(tmp_path, "list") for _ in range(2))
    assert "torch" in first and not first & {"sympy", "torch._dynamo", "torchvision", "datasets"}
    assert "torch" not in second
