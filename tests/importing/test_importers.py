"""The table of systems, and what files look like."""

import pytest
import torch

from maskgit.importing.importers import IMPORTERS, looks_like, may_be
from maskgit.model.backbones import BACKBONES
from tests.conftest import repo
from vqgan.tokenizers import TOKENIZERS


def test_tensors_of_nobody_look_like_nothing():
    tensors = {"layer.weight": torch.ones(1)}
    assert looks_like(tensors) == [] and not any(may_be(name, tensors) for name in IMPORTERS)


def test_names_that_two_systems_share_are_of_the_one_that_is_asked_for():
    shared = [name for name, system in IMPORTERS.items() if system.like]
    assert shared, "IBQ has the names of taming's"
    for name in shared:
        assert IMPORTERS[name].like in IMPORTERS


@pytest.mark.parametrize("name", IMPORTERS)
def test_files_are_named_once(name):
    files = [(file.repo, file.file) for file in IMPORTERS[name].files]
    assert files and len({*files}) == len(files)


def test_published_nets_are_entries_of_the_tables():
    assert {"halton", "maskgit_v1", "maskgit_flax", "maskbit"} <= {*BACKBONES}
    assert {"titok_bert", "titok_uvit"} <= {*BACKBONES}
    assert {"vqgan", "magvit2", "titok"} <= {*TOKENIZERS}


def test_the_sign_lists_every_file_with_its_figure():
    sign = (repo() / "maskgit" / "importing" / "README.md").read_text()
    for name, system in IMPORTERS.items():
        for file in system.files:
            figure = "" if file.fid is None else f"{file.fid:.2f}"
            [row] = [
                row
                for row in sign.splitlines()
                if row.startswith(f"| `{name}` |") and file.repo in row and file.file in row
            ]
            assert row.endswith(f"| {file.gives} | {figure} |")
