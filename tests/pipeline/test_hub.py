"""Files of the hub, from a server on this machine that speaks its protocol."""

import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants

from maskgit.importing import read_tensors
from maskgit.pipeline import fetch
from maskgit.pipeline.hub import parse_hub
from tests.conftest import repo
from tests.pipeline.conftest import WEIGHTS, point_at
from tests.pipeline.hub_server import COMMIT


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hub:owner/repo", ("owner/repo", None, None)),
        ("hub:owner/repo.v1/path/in/repo.pt", ("owner/repo.v1", None, "path/in/repo.pt")),
        ("hub:owner/repo@v1.0", ("owner/repo", "v1.0", None)),
        ("hub:o-w/r_e@abc/file.pt", ("o-w/r_e", "abc", "file.pt")),
    ],
)
def test_names_are_taken_apart(name, parts):
    assert parse_hub(name) == parts


@pytest.mark.parametrize(
    "name", ["hub:", "hub:repo", "owner/repo", "hub:a/b@", "hub:a/b/", "hub:/a/b"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="write hub:owner/repo"):
        parse_hub(name)


def test_a_file_is_downloaded_once(hub):
    path = fetch("hub:owner/open/c2i/B.pt")
    assert path.read_bytes() == b"deep" and path.name == "B.pt" and COMMIT in path.parts
    assert fetch("hub:owner/open", file="c2i/B.pt") == path
    downloads = [path for method, path, *_ in hub.asked if method == "GET" and "/resolve/" in path]
    assert downloads == ["/owner/open/resolve/main/c2i/B.pt"]


@pytest.mark.parametrize(
    "name", ["hub:owner/open@v1", f"hub:owner/open@{COMMIT}", "hub:owner/open"]
)
def test_a_revision_is_asked_for(hub, name):
    assert fetch(name, file="vq_ds8_c2i.pt", revision=None).read_bytes() == b"eight"
    assert fetch("hub:owner/open", "vq_ds8_c2i.pt", revision="v1").read_bytes() == b"eight"
    asked = (name.partition("@")[2] or "main", "v1")
    assert all(any(f"/resolve/{part}/" in path for _, path, *_ in hub.asked) for part in asked)


@pytest.mark.parametrize(
    ("name", "known", "chosen"),
    [
        ("hub:owner/open", ["vq_ds4.pt", "vq_ds8_c2i.pt", "vq_ds16_c2i.pt"], "vq_ds8_c2i.pt"),
        ("hub:owner/one", [], "weights.bin"),
        ("hub:owner/folder", [], "model.safetensors"),
        ("hub:owner/bare", [], "model.safetensors"),
    ],
)
def test_a_file_is_chosen_where_none_is_named(hub, name, known, chosen):
    assert fetch(name, known=known).name == chosen


@pytest.mark.parametrize(
    ("name", "listed"), [("open", "c2i/B.pt, vq_ds16_c2i.pt"), ("none", "README.md")]
)
def test_otherwise_there_is_a_choice(hub, name, listed):
    with pytest.raises(ValueError, match=f"which file of hub:owner/{name}.*{listed}"):
        fetch(f"hub:owner/{name}", known=["other.pt"])


@pytest.mark.parametrize("name", ["hub:owner/folder", "hub:owner/folder/model.safetensors"])
def test_a_config_comes_with_its_weights(hub, name):
    found = read_tensors(fetch(name))
    assert found.config == {"heads": 4}
    assert torch.equal(found.tensors["weight"], torch.arange(100_000.0))


def test_a_broken_download_is_taken_up_where_it_broke(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)
    hub.breaks = 2
    path = fetch("hub:owner/folder/model.safetensors")
    assert path.read_bytes() == WEIGHTS
    ranges = [r for method, path, r, _ in hub.asked if method == "GET" and path.endswith("tensors")]
    half = len(WEIGHTS) // 2
    assert ranges == [None, f"bytes={half}-", f"bytes={half + (len(WEIGHTS) - half) // 2}-"]


def test_a_download_that_keeps_breaking_leaves_nothing(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.breaks = 10**6
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        fetch("hub:owner/one/weights.bin")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.endswith("bin")]


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize("name", ["gated", "private"])
def test_a_token_opens_what_is_closed(hub, name, by, monkeypatch):
    if by == "environment":
        monkeypatch.setenv("HF_TOKEN", "secret")
    path = fetch(f"hub:owner/{name}", token="secret" if by == "argument" else None)
    assert path.read_bytes() == name.encode()


LINES = {
    "hub:owner/gated": (ValueError, "owner/gated is gated: accept its terms at http.*HF_TOKEN"),
    "hub:owner/gated/weights.bin": (ValueError, "owner/gated is gated"),
    "hub:owner/private": (FileNotFoundError, "has no owner/private for you: .* set HF_TOKEN"),
    "hub:owner/private/weights.bin": (FileNotFoundError, "has no owner/private for you"),
    "hub:owner/typo": (FileNotFoundError, "has no owner/typo for you: check the name"),
    "hub:owner/open@v2": (FileNotFoundError, "owner/open has no revision 'v2': name a branch"),
    "hub:owner/open@v2/a.pt": (FileNotFoundError, "owner/open has no revision 'v2'"),
    "hub:owner/open/a.pt": (
        FileNotFoundError,
        "owner/open has no file 'a.pt': see http.*/tree/main",
    ),
    "hub:owner/-.-": (ValueError, "hub:owner/-.-: "),
}


@pytest.mark.parametrize("name", LINES)
def test_what_is_refused_is_said_in_one_line(hub, name):
    kind, line = LINES[name]
    with pytest.raises(kind, match=line) as caught:
        fetch(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hub:owner/open", "hub:owner/open/vq_ds8_c2i.pt"])
def test_a_token_that_is_no_longer_valid_is_named(hub, name, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "expired")
    with pytest.raises(ValueError, match=r"refuses owner/open \(401\): HF_TOKEN is not valid"):
        fetch(name)


@pytest.mark.parametrize("name", ["hub:owner/open", "hub:owner/open/vq_ds8_c2i.pt"])
def test_a_hub_that_is_down_is_named(hub, name, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken = 500
    with pytest.raises(
        (ValueError, FileNotFoundError), match="answers 500 for owner/open: try again"
    ):
        fetch(name)


@pytest.mark.parametrize("name", ["hub:owner/folder", "hub:owner/folder/model.safetensors"])
def test_without_a_connection_the_cache_serves(hub, name, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    path = fetch(name)
    point_at("http://127.0.0.1:9", monkeypatch)
    assert fetch(name) == path
    with pytest.raises(
        FileNotFoundError, match="is not in the cache .* http://127.0.0.1:9 cannot be"
    ):
        fetch("hub:owner/open" + name.removeprefix("hub:owner/folder"))


@pytest.mark.parametrize("name", ["hub:owner/folder", "hub:owner/folder/model.safetensors"])
def test_offline_the_cache_serves_and_nothing_is_asked(hub, name, monkeypatch, tmp_path):
    path = fetch(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert fetch(name) == path
    line = f"is not in the cache {tmp_path / 'cache'}, and HF_HUB_OFFLINE is set: unset it"
    with pytest.raises(FileNotFoundError, match=line):
        fetch("hub:owner/open" + name.removeprefix("hub:owner/folder"))
    assert hub.asked == []


def test_the_environment_of_the_hub_is_heeded(hub, tmp_path):
    """In a process of its own: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE."""
    code = "import sys; from maskgit.pipeline import fetch; print(fetch(sys.argv[1]))"
    more = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "secret"}
    env = {**os.environ, "HF_HUB_OFFLINE": "0", **more}
    words = [sys.executable, "-c", code, "hub:owner/gated"]
    run = {"cwd": repo(), "env": env, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(words, **run)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "home") in done.stdout
    env["HF_HUB_OFFLINE"] = "1"
    assert subprocess.run(words, **run).stdout == done.stdout
