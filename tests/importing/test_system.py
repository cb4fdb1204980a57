"""What the systems share."""

import pytest
import torch

from maskgit.importing.importers import IMPORTERS
from maskgit.importing.system import Sizes, number_of, renamed, shape_of, whole_root


def test_sizes_that_are_not_told_are_asked_for():
    sizes = Sizes({"heads": 4})
    assert sizes.get("heads") == 4 and sizes.get("groups", 32) == 32
    with pytest.raises(ValueError, match=r"do not say depth.*by --sizes"):
        sizes.get("depth")


def test_names_are_changed_by_every_rule_in_turn():
    tensors = {"a.0.b": torch.ones(2), "a.11.b": torch.ones(3)}
    ours = renamed(tensors, [(r"^a\.(\d+)", r"level.\1"), (r"\.b$", ".weight")])
    assert [*ours] == ["level.0.weight", "level.11.weight"]
    assert number_of(ours, "level.") == 12 and number_of(ours, "lev.") == 0
    assert shape_of(ours, "level.11.weight") == (3,)
    with pytest.raises(ValueError, match=r"it lacks a\.2"):
        shape_of(ours, "level.2")


def test_a_square_has_a_side():
    assert whole_root(576, "cells") == 24
    with pytest.raises(ValueError, match="cells are 577, which is no square"):
        whole_root(577, "cells")


@pytest.mark.parametrize("name", IMPORTERS)
def test_a_system_says_what_one_needs_to_know(name):
    system = IMPORTERS[name]
    assert system.title and system.url.startswith("https://") and system.licence
    assert all(file.repo and file.file and file.gives for file in system.files)
    first = system.tokenizer.split(" ")[0]
    assert first in {"", *IMPORTERS}, "the tokenizer is imported by a command that there is"
    generators = any("generator" in file.gives for file in system.files)
    assert generators == bool(system.tokenizer)
