"""Flips, cuts and swaps in the files of a pipeline: detected and named, or nothing is changed."""

import os
import random
import shutil
from contextlib import suppress

import pytest
import torch

from maskgit.model.backbones import make_critic
from maskgit.pipeline.pipeline import Pipeline
from tests.conftest import make_pipeline
from tests.faults.conftest import cases, harm

pytestmark = pytest.mark.faults


@pytest.fixture
def folder(tmp_path):
    """A pipeline with a token critic."""
    pipeline = make_pipeline()
    shape = {"codebook_size": 16, "grid": (4, 4), "num_classes": 3}
    spec = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
    pipeline.model.token_critic = make_critic(spec, pipeline.net, "critic", **shape).eval()
    return pipeline.save_pretrained(tmp_path / "pipeline")


def drawn(folder):
    """The codes of two samples, or none if the pipeline is refused in one line."""
    try:
        *_, codes = Pipeline.from_pretrained(folder).rounds([0, 2], [5, 6])
    except (ValueError, FileNotFoundError) as error:
        assert str(folder) in str(error) and "\n" not in str(error)
        return None
    return codes


def damaged(folder, scratch, draws):
    """A copy of the folder with harm done to it."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    return harm([path for path in scratch.rglob("*") if path.is_file()], draws)


def test_no_damaged_file_draws_other_pictures(folder, tmp_path, tally):
    truth, draws = drawn(folder), random.Random(0)
    passed, count = 0, cases(60, 250)
    for _ in range(count):
        how = damaged(folder, tmp_path / "damaged", draws)
        found = drawn(tmp_path / "damaged")
        passed += found is None or torch.equal(found, truth)
        if found is not None and not torch.equal(found, truth):
            print("drew other pictures:", *how)
    tally("flips, cuts, swaps: pipeline files", passed, count)


@pytest.mark.parametrize("name", ["model", "tokenizer", "critic"])
def test_a_file_of_another_export_is_named(folder, tmp_path, name):
    torch.manual_seed(1)
    other = Pipeline.from_pretrained(folder)
    for parameter in (*other.model.parameters(), *other.tokenizer.parameters()):
        torch.nn.init.normal_(parameter, std=0.1)
    other.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / f"{name}.safetensors", folder)
    with pytest.raises(ValueError, match=f"{name}.safetensors is not the one that .*config.json"):
        Pipeline.from_pretrained(folder)


def test_an_export_that_is_killed_at_any_call_leaves_all_of_the_old_or_all_of_the_new(
    folder, monkeypatch
):
    old = Pipeline.from_pretrained(folder)
    new = Pipeline.from_pretrained(folder)
    with torch.no_grad():
        for parameter in new.model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    both = []
    for pipeline in (old, new):
        *_, codes = pipeline.rounds([0, 2], [5, 6])
        both.append(codes)
    seen = set()
    for number in range(12):
        old.save_pretrained(folder)
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", killed_at(number, os.replace))
            patch.setattr("maskgit.pipeline.saved.remove", lambda path: None)  # nor cleans up
            with suppress(KeyboardInterrupt):
                new.save_pretrained(folder)
        found = drawn(folder)
        assert found is not None
        seen.add([torch.equal(found, codes) for codes in both].index(True))
    assert seen == {0, 1}
    new.save_pretrained(folder)
    assert torch.equal(drawn(folder), both[1])
    assert not list(folder.glob(".*"))


def killed_at(number, call):
    """A call that works `number` times."""
    left = iter(range(number))

    def replaced(*paths):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return call(*paths)

    return replaced
