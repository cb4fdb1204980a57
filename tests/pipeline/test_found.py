"""Pipelines by their names on a hub: a server on this machine that speaks its protocol."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from maskgit.pipeline import Pipeline, at_hand
from maskgit.pipeline.found import found
from maskgit.pipeline.hub import is_cached
from tests.conftest import cli
from tests.pipeline.conftest import point_at
from tests.pipeline.hub_server import Repository


@pytest.fixture
def model(hub, run):
    """`me/bags` on the hub, of two revisions."""
    paths = filter(Path.is_file, (run / "pipeline").rglob("*"))
    files = {p.relative_to(run / "pipeline").as_posix(): p.read_bytes() for p in paths}
    files |= {"presets/halton-2.yaml": b"sampler: {name: halton, steps: 2}\n", "notes.pdf": b"%"}
    hub.repositories["me/bags"] = Repository(files)
    hub.repositories["me/secret"] = Repository(files, token="secret")
    return "me/bags"


def drawn(pipeline):
    return torch.stack(list(pipeline.stream([0, 2], [3, 4])))


def downloads(hub):
    return [path for method, path, *_ in hub.asked if method == "GET" and "/resolve/" in path]


def test_a_pipeline_is_loaded_by_its_name(hub, model, run):
    pipeline = Pipeline.from_pretrained(model)
    assert torch.equal(drawn(pipeline), drawn(Pipeline.from_pretrained(run)))
    assert list(pipeline.presets) == ["halton-2"]
    assert len(downloads(hub)) == 4 and not [path for path in downloads(hub) if "notes" in path]
    Pipeline.from_pretrained(f"hub:{model}")
    assert len(downloads(hub)) == 4  # the cache


def test_revisions_and_tokens(hub, model):
    Pipeline.from_pretrained(model, revision="v1")
    assert all("/resolve/v1/" in path for path in downloads(hub))
    assert found(f"hub:{model}@v1") == found(model, "v1")
    with pytest.raises(FileNotFoundError, match="no revision 'v9'"):
        Pipeline.from_pretrained(model, revision="v9")
    with pytest.raises(FileNotFoundError, match="no folder me/secret here, and .* set HF_TOKEN"):
        Pipeline.from_pretrained("me/secret")
    Pipeline.from_pretrained("me/secret", token="secret")


def test_offline_the_cache_serves(hub, model, monkeypatch):
    first = Pipeline.from_pretrained(model)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert torch.equal(drawn(Pipeline.from_pretrained(model)), drawn(first)) and not hub.asked
    with pytest.raises(FileNotFoundError, match="no folder me/other here, and .*HF_HUB_OFFLINE"):
        Pipeline.from_pretrained("me/other")


def test_without_a_connection_the_cache_serves(hub, model, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    first = found(model)
    point_at("http://127.0.0.1:9", monkeypatch)
    assert found(model) == first


def test_a_broken_download_goes_on(hub, model, run, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    hub.breaks = 2
    assert drawn(Pipeline.from_pretrained(model)).shape == (2, 1, 16, 16)
    assert [asked for asked in hub.asked if asked[2]]  # a range


def test_a_folder_stands_before_the_hub(hub, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert found("run") == Path("run/pipeline") and found("run/pipeline") == Path("run/pipeline")
    assert found(Path("me/bags")) == Path("me/bags") and at_hand(run) == run
    assert not hub.asked and not is_cached(run)
    with pytest.raises(ValueError, match="only models of the hub have a revision"):
        found("run", "v1")
    with pytest.raises(FileNotFoundError, match=r"no generator in nowhere"):
        Pipeline.from_pretrained("nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hub:owner/open", "owner/open is no pipeline: it has no config.json"),
        ("hub:me/bags/config.json", "is a file: a pipeline is named hub:owner/repo"),
        ("hub:bags", "write hub:owner/repo"),
        ("hub:me/none", "has no me/none for you: check the name"),
    ],
)
def test_commands_say_in_a_line_what_is_not_there(hub, model, name, message, tmp_path, capsys):
    assert cli("sample", name, "--out", tmp_path / "x.png") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_commands_take_a_name_of_the_hub(hub, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"hub:{model}"
    assert cli("sample", name, "--out", "x.png", "--per-label", 1, "--preset", "halton-2") == 0
    assert (tmp_path / "x.png").is_file()
    assert cli("info", name) == 0 and "maskgit, " in capsys.readouterr().out
    edit = ("edit", "variation", name, "x.png", "--resize", "--label", 0, "--out", "y.png")
    assert cli(*edit) == 0 and (tmp_path / "y.png").is_file()
    assert cli("share", name, "--out", "copy") == 0
    assert torch.equal(
        drawn(Pipeline.from_pretrained("copy")), drawn(Pipeline.from_pretrained(model))
    )
    capsys.readouterr()
    for words in (("tune", name), ("compare", name), ("evaluate", name)):
        assert cli(*words) == 2
        assert "this one is in the cache of the hub: `maskgit share" in capsys.readouterr().err
