"""The golden files of other projects, unpacked where a test first asks for them."""

import atexit
import lzma
import shutil
import tempfile
from functools import cache
from pathlib import Path

from safetensors.torch import load_file

from tests.conftest import repo

PACKED = repo() / "tests" / "golden" / "imports"
SYSTEMS = sorted(path.name for path in PACKED.iterdir() if path.is_dir())


@cache
def _scratch():
    folder = Path(tempfile.mkdtemp(prefix="golden-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def golden(system):
    """A folder with the checkpoint, its sizes, inputs.safetensors and outputs.safetensors; it is
    shared by all tests of a process: only read it."""
    folder = _scratch() / system
    folder.mkdir()
    for path in sorted((PACKED / system).iterdir()):
        if path.suffix == ".xz":
            (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, folder / path.name)
    return folder


def checkpoint(system):
    """The one file of the folder that holds weights."""
    (path,) = (
        path
        for path in golden(system).iterdir()
        if path.suffix != ".json" and "puts.safetensors" not in path.name
    )
    return path


def inputs(system):
    """name -> tensor: images, codes, labels, as the project has them."""
    return load_file(golden(system) / "inputs.safetensors")


def outputs(system):
    """name -> tensor: what the project's own code makes of the inputs."""
    return load_file(golden(system) / "outputs.safetensors")
